"""Is every output the target's own? Each trial is compared with the first server-only trial of the same image and
pair, on its own node if there is one.

Where they differ, the target's logits of both tokens at that position are computed again, by the reference decoder,
after the trials (so that nothing is timed beside it). A gap below the bound that rounding can bridge
(`decoding/exact.py`) is a tie: a verification of several rows and a single step add up in another order. Anything
larger is a defect.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from aiflow_cli.decoding.exact import DEFAULT_BOUND
from aiflow_cli.decoding.methods import Method
from aiflow_cli.world.record import Mismatch, Trial

if TYPE_CHECKING:
    from aiflow_cli.models.vlm import VisionLanguageModel

Probe = Callable[[Trial, int, int, int], float | None]
"""(server-only trial, position, expected token, other token) -> gap between their logits there; None: the target is not
on this machine."""


def comparable(trial: Trial) -> bool:
    """Whether the target made this output: warm-ups and the draft model's own are not compared."""
    return not trial.warmup and trial.setting.on_server


def compare(trials: Sequence[Trial], dtype: str, probe: Probe) -> list[Trial]:
    """`trials` with `identical` and `mismatch` filled in wherever there is a server-only trial to compare with."""
    known: dict[tuple[str, str, str | None], Trial] = {}
    for trial in trials:
        if trial.setting.method is Method.SERVER_ONLY and not trial.warmup:
            for node in (trial.node, None):  # another processor rounds otherwise; None: whichever
                known.setdefault((trial.image_id, trial.setting.pair, node), trial)
    compared = []
    for trial in trials:
        image, pair = trial.image_id, trial.setting.pair
        reference = known.get((image, pair, trial.node)) or known.get((image, pair, None))
        if reference is not None and comparable(trial):
            trial = _compared(trial, reference, dtype, probe)
        compared.append(trial)
    return compared


def _compared(trial: Trial, reference: Trial, dtype: str, probe: Probe) -> Trial:
    if trial.tokens == reference.tokens:
        return trial.replace(identical=True, mismatch=None)
    both = enumerate(itertools.zip_longest(reference.tokens, trial.tokens))  # None: that output has ended
    position, (expected, got) = next((at, tokens) for at, tokens in both if tokens[0] != tokens[1])
    found = Mismatch(position=position, expected=expected, got=got, margin=None, kind="defect")
    if expected is not None and got is not None:
        margin = probe(reference, position, expected, got)
        if margin is None:
            found = found.replace(kind="unexplained")
        else:
            found = found.replace(margin=margin, kind="tie" if margin < DEFAULT_BOUND[dtype] else "defect")
    return trial.replace(identical=False, mismatch=found)


def describe(trial: Trial) -> str:
    """One line about the mismatch of a trial."""
    mismatch = trial.mismatch
    assert mismatch is not None
    if mismatch.kind == "unexplained":
        margin = "not explained: the target is not on this machine"
    else:
        width = "no margin" if mismatch.margin is None else f"margin {mismatch.margin:.2g}"
        margin = f"{width} between their logits"
    expected, got = ("the end" if token is None else token for token in (mismatch.expected, mismatch.got))
    where = f"{trial.setting.words} differs on image {trial.image_id} at token {mismatch.position}"
    return f"{mismatch.kind}: {where}: expected {expected}, got {got} ({margin})"


def reference_probe(
    load: Callable[[], VisionLanguageModel] | None, question: str, images: Mapping[str, bytes]
) -> Probe:
    """A probe of the target model, which its first call loads, if it is here; `images`: an image's bytes by its id."""
    loaded = cache(load) if load else None

    def probe(reference: Trial, position: int, expected: int, other: int) -> float | None:
        if loaded is None:
            return None
        from aiflow_cli.models.decoder import ReferenceDecoder

        model = loaded()
        decoder = ReferenceDecoder(model.model)
        decoder.prefill(model.prepare(images[reference.image_id], question))
        if position:
            decoder.extend(reference.tokens[:position])
        row = decoder.last_logits[-1].float()
        return float((row[expected] - row[other]).abs())

    return probe
