"""Two results side by side: what differs in their set-up, and, with intervals, in their figures.

Times are compared on the same images (paired) where both results have the same data, by fingerprint; else each is
resampled by itself, as the sessions of two results always are. An image is the same image on another machine, unless a
result has it on several: then it is compared with itself on the machine of that name. With too few images (see
`intervals.py`) there are ratios, and no verdict. Speed-ups are over the own server-only of each result, so they compare
across machines where times do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.arms import Arm
from aiflow_cli.analysis.intervals import Chance, Interval, apart_interval, too_few
from aiflow_cli.analysis.metrics import Metric, Unit
from aiflow_cli.analysis.result import Key, Result, link_label
from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import UsageError
from aiflow_cli.world.record import Link

_PARTS = ("name", "data", "fingerprints", "spec", "pairs")
_PROVENANCE = ("aiflow", "git", "python", "packages", "platform", "host", "cpu", "gpu", "memory_bytes")

Shown = Literal["B is faster", "B is slower", "no difference shown", "too few images"]


@dataclass(frozen=True)
class Difference:
    """A setting, version or machine that is not the same."""

    what: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Compared:
    """One setting in both results. Times in milliseconds; ratios are B's time over A's; speed-ups by decode TPOT.

    `images` are those that the ratios rest on: common ones if paired, else those of the result that has fewer.
    """

    setting: str
    images: int
    trials_a: int
    trials_b: int
    paired: bool
    decode_tpot_a_ms: Interval
    decode_tpot_b_ms: Interval
    decode_tpot_ratio: Interval
    latency_ratio: Interval
    speedup_a: Interval
    speedup_b: Interval

    @property
    def verdict(self) -> Shown:
        """By the ratio of decode TPOT (of latency per token where that is not defined)."""
        ratio = self.decode_tpot_ratio if self.decode_tpot_ratio.defined else self.latency_ratio
        if self.too_few:
            return "too few images"
        if not ratio.known or ratio.low <= 1 <= ratio.high:
            return "no difference shown"
        return "B is faster" if ratio.high < 1 else "B is slower"

    @property
    def too_few(self) -> str | None:
        """Why there is no verdict, or None."""
        return too_few(self.images)


@dataclass(frozen=True)
class Comparison:
    """What differs, what is compared, and the settings that only one of the two has."""

    differences: list[Difference]
    settings: list[Compared]
    only_a: list[str]
    only_b: list[str]
    resampled: str
    """What intervals are over: images, and the sessions of either result."""


def compare(a: Result, b: Result) -> Comparison:
    """Compare two results. Raises UsageError if no setting is in both."""
    mine, theirs = _arms(a, b), _arms(b, a)
    common = [label for label in mine if label in theirs]
    if not common:
        raise UsageError(f"{a.folder} and {b.folder} have no setting in common: they share no method and draft length")
    prints = [result.told("data").get("fingerprint") for result in (a, b)]
    same_data = prints[0] is not None and prints[0] == prints[1]
    return Comparison(
        differences=set_up_differences(a.document, b.document),
        settings=[_compared(label, a, mine[label], b, theirs[label], same_data) for label in common],
        only_a=[label for label in mine if label not in theirs],
        only_b=[label for label in theirs if label not in mine],
        resampled=" against ".join(dict.fromkeys((a.everything.resampled, b.everything.resampled))),
    )


def set_up_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """What two run.json say otherwise of settings, versions and machine; what only one of them says differs too."""
    first, second = _set_up(a), _set_up(b)
    differences = (Difference(what, first.get(what), second.get(what)) for what in dict.fromkeys([*first, *second]))
    return [difference for difference in differences if difference.a != difference.b]


def _set_up(document: Mapping[str, Any]) -> dict[str, Any]:
    told = {part: document[part] for part in _PARTS if part in document}
    links = [Link(**link).spec for link in document.get("links") or []]
    told["links"] = [f"{link_label(link)}, burst {link.burst_bytes} B" for link in links]
    provenance = document.get("provenance") or {}
    return dict(_flat(told | {part: provenance[part] for part in _PROVENANCE if part in provenance}, ""))


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Nested parts by dotted names; what stands in a list by its `name` there, or its place."""
    if isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        value = {
            inner["name"] if isinstance(inner, dict) and "name" in inner else place: inner
            for place, inner in enumerate(value)
        }
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _arms(result: Result, other: Result) -> dict[str, Key]:
    """The settings of a result by a label that fits both: pair and link are named where either has several."""
    pairs = len(result.pairs) > 1 or len(other.pairs) > 1
    links = len(result.links) > 1 or len(other.links) > 1

    def label(key: Key) -> str:
        parts = [key.pair] if pairs else []
        parts += [link_label(key.link)] if links and key.method is not Method.ON_DEVICE else []
        return ", ".join([*parts, key.method.value if key.gamma is None else f"{key.method.value} γ {key.gamma}"])

    return {label(key): key for key in sorted(result.by_setting, key=lambda key: key.place)}


def _compared(label: str, a: Result, key_a: Key, b: Result, key_b: Key, same_data: bool) -> Compared:
    first, second = (result.arm(key.series, key.method, key.gamma) for result, key in ((a, key_a), (b, key_b)))
    # an image is told apart by its machine only where one result has it on several
    nodes = any(arm.images > len({unit.image_id for unit in arm.units}) for arm in (first, second))
    mine, theirs = ({_image(unit, nodes) for unit in arm.units} for arm in (first, second))
    common = mine & theirs if same_data else set()

    def ratio(metric: Metric) -> Interval:
        over, under = (
            {Unit(unit.session, *_image(unit, nodes)): ratio for unit, ratio in arm.sums(metric).items() if ratio.under}
            for arm in (second, first)
        )
        if common:
            both = {unit.image for unit in over} & {unit.image for unit in under}
            over, under = ({u: r for u, r in sums.items() if u.image in both} for sums in (over, under))
        return apart_interval(over, under, Chance(images=not common, sessions=1))

    return Compared(
        setting=label,
        images=len(common) or min(len(mine), len(theirs)),
        trials_a=len(first.trials),
        trials_b=len(second.trials),
        paired=bool(common),
        decode_tpot_a_ms=first.ms(metrics.decode_tpot),
        decode_tpot_b_ms=second.ms(metrics.decode_tpot),
        decode_tpot_ratio=ratio(metrics.decode_tpot),
        latency_ratio=ratio(metrics.latency_per_token),
        speedup_a=_speedup(a, key_a, first),
        speedup_b=_speedup(b, key_b, second),
    )


def _speedup(result: Result, key: Key, arm: Arm) -> Interval:
    if key.method is Method.SERVER_ONLY:
        return Interval()
    return result.baseline(key.series).over(arm, metrics.decode_tpot)


def _image(unit: Unit, nodes: bool) -> tuple[str, str]:
    return unit.node if nodes else "", unit.image_id
