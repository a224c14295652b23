"""Is every output the target's own? Each trial is compared with the first server-only trial of the same image and
pair, on its own node if there is one.

Where they differ, the target's logits of both tokens at that position are computed again, by the reference decoder,
after the trials (so that nothing is timed beside it). A gap below the bound that rounding can bridge
(`decoding/exact.py`) is a tie: a verification of several rows and a single step add up in another order. Anything
larger is a defect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiflow_cli.decoding.exact import DEFAULT_BOUND
from aiflow_cli.decoding.methods import Method
from aiflow_cli.world.record import Mismatch, Trial

Probe = Callable[[Trial, int, int, int], float | None]
"""(server-only trial, position, expected token, other token) -> gap between their logits there; None: the target is not
on this machine."""
Likeness = tuple[str, str, str | None]
"""Image, pair and node (another processor rounds otherwise; None: any): trials alike in these must have one output."""


def first_difference(expected: Sequence[int], got: Sequence[int]) -> int | None:
    """The first position in which two outputs differ, or None."""
    for position, pair in enumerate(zip(expected, got, strict=False)):
        if pair[0] != pair[1]:
            return position
    return None if len(expected) == len(got) else min(len(expected), len(got))


def references(trials: Iterable[Trial]) -> dict[Likeness, Trial]:
    """The first measured server-only trial of each likeness."""
    found: dict[Likeness, Trial] = {}
    for trial in trials:
        if trial.setting.method is Method.SERVER_ONLY and not trial.warmup:
            for likeness in _likenesses(trial):
                found.setdefault(likeness, trial)
    return found


def reference_of(trial: Trial, known: Mapping[Likeness, Trial]) -> Trial | None:
    """What a trial is compared with, out of `references`."""
    own, any_node = _likenesses(trial)
    return known.get(own) or known.get(any_node)


def _likenesses(trial: Trial) -> tuple[Likeness, Likeness]:
    image, pair = trial.image_id, trial.setting.pair
    return (image, pair, trial.node), (image, pair, None)


def comparable(trial: Trial) -> bool:
    """Whether the target made this output: warm-ups and the draft model's own are not compared."""
    return not trial.warmup and trial.setting.on_server


def compare(trials: Sequence[Trial], dtype: str, probe: Probe) -> list[Trial]:
    """`trials` with `identical` and `mismatch` filled in wherever there is a server-only trial to compare with."""
    known = references(trials)
    return [_compared(trial, reference_of(trial, known), dtype, probe) for trial in trials]


def _compared(trial: Trial, reference: Trial | None, dtype: str, probe: Probe) -> Trial:
    if reference is None or not comparable(trial):
        return trial
    position = first_difference(reference.tokens, trial.tokens)
    if position is None:
        return trial.replace(identical=True, mismatch=None)
    return trial.replace(identical=False, mismatch=_explained(trial, reference, position, dtype, probe))


def _explained(trial: Trial, reference: Trial, position: int, dtype: str, probe: Probe) -> Mismatch:
    expected, got = (dict(enumerate(one.tokens)).get(position) for one in (reference, trial))
    found = Mismatch(position=position, expected=expected, got=got, margin=None, kind="defect")
    if expected is None or got is None:
        return found
    margin = probe(reference, position, expected, got)
    if margin is None:
        return found.replace(kind="unexplained")
    return found.replace(margin=margin, kind="tie" if margin < DEFAULT_BOUND[dtype] else "defect")


def describe(trial: Trial) -> str:
    """One line about the mismatch of a trial."""
    mismatch = trial.mismatch
    assert mismatch is not None
    if mismatch.kind == "unexplained":
        margin = "not explained: the target is not on this machine"
    elif mismatch.margin is None:
        margin = "no margin between their logits"
    else:
        margin = f"margin {mismatch.margin:.2g} between their logits"
    expected, got = ("the end" if token is None else token for token in (mismatch.expected, mismatch.got))
    return (
        f"{mismatch.kind}: {trial.setting.words} differs on image {trial.image_id} at token {mismatch.position}: "
        f"expected {expected}, got {got} ({margin})"
    )


def reference_probe(
    target: Path | None,
    device: str,
    dtype: str,
    question: str,
    images: Mapping[str, bytes],
    quantize: str | None = None,
) -> Probe:
    """A probe that loads the target model, if it is here, on its first call; `images`: an image's bytes by its id."""
    loaded: list[Any] = []

    def probe(reference: Trial, position: int, expected: int, other: int) -> float | None:
        if target is None:
            return None
        from aiflow_cli.models.decoder import ReferenceDecoder
        from aiflow_cli.models.vlm import VisionLanguageModel

        if not loaded:
            loaded.append(VisionLanguageModel.from_folder(target, device, dtype, quantize))
        model = loaded[0]
        decoder = ReferenceDecoder(model.model)
        decoder.prefill(model.prepare(images[reference.image_id], question))
        if position:
            decoder.extend(reference.tokens[:position])
        row = decoder.last_logits[-1].float()
        return float((row[expected] - row[other]).abs())

    return probe
