"""Is every output the target's own? Each trial is compared with the first server-only trial of the same image and pair, on its own
node if there is one.

Where they differ, the target's logits of both tokens at that position are computed again, by the reference decoder, after
the trials (so that nothing is timed beside it). A gap below the bound that rounding can bridge (`decoding/exact.py`) is a tie: a verification
of several rows and a single step add up in another order. Anything larger is a defect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from aiflow_cli.decoding.exact import DEFAULT_BOUND
from aiflow_cli.trials.store import Record

Probe = Callable[[Record, int, int, int], float | None]
"""(server-only trial, position, expected token, other token) -> gap between their logits there; None: the target is not on this machine."""


@dataclass(frozen=True)
class Mismatch:
    """The first token in which an output differs. A token is None where that output had ended already."""

    position: int
    expected: int | None
    got: int | None
    margin: float | None
    kind: Literal["tie", "defect", "unexplained"]


def first_difference(expected: Sequence[int], got: Sequence[int]) -> int | None:
    """The first position in which two outputs differ, or None."""
    for position, pair in enumerate(zip(expected, got, strict=False)):
        if pair[0] != pair[1]:
            return position
    return None if len(expected) == len(got) else min(len(expected), len(got))


Likeness = tuple[str, str, str | None]


def likeness(record: Record) -> Likeness:
    """Trials that are alike in this must have one output: image, pair, and node (another processor rounds otherwise)."""
    return record["image_id"], record["pair"], record.get("node")


def references(records: Iterable[Record]) -> dict[Likeness, Record]:
    """The first measured server-only trial of each likeness; under None for the node, the first on any."""
    found: dict[Likeness, Record] = {}
    for record in records:
        if record["method"] == "server-only" and not record["warmup"]:
            found.setdefault(likeness(record), record)
            found.setdefault((record["image_id"], record["pair"], None), record)
    return found


def reference_of(record: Record, known: Mapping[Likeness, Record]) -> Record | None:
    """What a trial is compared with, out of `references`."""
    return known.get(likeness(record)) or known.get((record["image_id"], record["pair"], None))


def judge(records: Sequence[Record], dtype: str, probe: Probe) -> list[Record]:
    """`records` with `identical` and `mismatch` filled in wherever there is a server-only trial to compare with."""
    known = references(records)
    return [_judged(record, reference_of(record, known), dtype, probe) for record in records]


def comparable(record: Record) -> bool:
    """Whether the target made this output: warm-ups and the draft model's own are not compared."""
    return not record["warmup"] and record["method"] != "on-device"


def _judged(record: Record, reference: Record | None, dtype: str, probe: Probe) -> Record:
    if reference is None or not comparable(record):
        return record
    position = first_difference(reference["tokens"], record["tokens"])
    if position is None:
        return record | {"identical": True, "mismatch": None}
    return record | {"identical": False, "mismatch": asdict(_explain(record, reference, position, dtype, probe))}


def _explain(record: Record, reference: Record, position: int, dtype: str, probe: Probe) -> Mismatch:
    expected, got = _at(reference["tokens"], position), _at(record["tokens"], position)
    if expected is None or got is None:
        return Mismatch(position, expected, got, None, "defect")
    margin = probe(reference, position, expected, got)
    if margin is None:
        return Mismatch(position, expected, got, None, "unexplained")
    return Mismatch(position, expected, got, margin, "tie" if margin < DEFAULT_BOUND[dtype] else "defect")


def _at(tokens: Sequence[int], position: int) -> int | None:
    return tokens[position] if position < len(tokens) else None


def describe(record: Record) -> str:
    """One line about the mismatch of a trial."""
    mismatch: dict[str, Any] = record["mismatch"]
    if mismatch["kind"] == "unexplained":
        margin = "not explained: the target is not on this machine"
    elif mismatch["margin"] is None:
        margin = "no margin between their logits"
    else:
        margin = f"margin {mismatch['margin']:.2g} between their logits"
    expected, got = ("the end" if token is None else token for token in (mismatch["expected"], mismatch["got"]))
    label = record["method"] if record["gamma"] is None else f"{record['method']} gamma {record['gamma']}"
    return (
        f"{mismatch['kind']}: {label} differs on image {record['image_id']} at token {mismatch['position']}: "
        f"expected {expected}, got {got} ({margin})"
    )


def reference_probe(
    target: Path | None,
    device: str,
    dtype: str,
    question: str,
    images: Callable[[str], bytes],
    quantize: str | None = None,
) -> Probe:
    """A probe that loads the target model, if it is here, on its first call; `images` gives an image's bytes by its id."""
    loaded: list[Any] = []

    def probe(reference: Record, position: int, expected: int, other: int) -> float | None:
        if target is None:
            return None
        from aiflow_cli.models.reference import ReferenceDecoder
        from aiflow_cli.models.vlm import VisionLanguageModel

        if not loaded:
            loaded.append(VisionLanguageModel.from_folder(target, device, dtype, quantize))
        model = loaded[0]
        decoder = ReferenceDecoder(model.model)
        decoder.prefill(model.prepare(images(reference["image_id"]), question))
        if position:
            decoder.extend(reference["tokens"][:position])
        row = decoder.last_logits[-1].float()
        return float((row[expected] - row[other]).abs())

    return probe
