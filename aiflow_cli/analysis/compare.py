"""Two results side by side: what differs in their set-up, and, with intervals, in their figures.

Times are compared on the same images (paired) where both results have the same data, by fingerprint; else each is resampled by itself. An
image is the same image on another machine, unless a result has it on several: then it is compared with itself on the machine of that name.
With too few images (see `intervals.py`) there are ratios, and no verdict.
Speed-ups are over the own server-only of each result, so they compare across machines where times do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.intervals import (
    Interval,
    ratio_interval,
    speedup_interval,
    too_few,
    unpaired_ratio_interval,
)
from aiflow_cli.analysis.metrics import Metric, Record
from aiflow_cli.analysis.result import ON_DEVICE, Key, Result, Series, link_label
from aiflow_cli.analysis.summary import BASELINE, link_of
from aiflow_cli.errors import AiflowError, UsageError

_PARTS = ("name", "data", "fingerprints")
_PROVENANCE = ("aiflow", "git", "python", "packages", "platform", "host", "cpu", "gpu", "memory_bytes")

Verdict = Literal["B is faster", "B is slower", "no difference shown", "too few images"]


@dataclass(frozen=True)
class Difference:
    """A setting, version or machine that is not the same."""

    what: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Compared:
    """One setting in both results. Times in milliseconds; ratios are B's time over A's; speed-ups by decode TPOT over the own server-only.

    `images` are those that the ratios rest on: common ones if paired, else those of the result that has fewer.
    """

    setting: str
    images: int
    trials_a: int
    trials_b: int
    paired: bool
    decode_tpot_a_ms: Interval | None
    decode_tpot_b_ms: Interval | None
    decode_tpot_ratio: Interval | None
    latency_ratio: Interval | None
    speedup_a: Interval | None
    speedup_b: Interval | None

    @property
    def verdict(self) -> Verdict:
        """By the ratio of decode TPOT (of latency per token where that is not defined)."""
        ratio = self.decode_tpot_ratio or self.latency_ratio
        if self.too_few:
            return "too few images"
        if ratio is None or not ratio.known or ratio.low <= 1 <= ratio.high:
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


def compare(a: Result, b: Result) -> Comparison:
    """Compare two results. Raises UsageError if no setting is in both."""
    mine, theirs = _arms(a, b), _arms(b, a)
    common = [label for label in mine if label in theirs]
    if not common:
        raise UsageError(f"{a.folder} and {b.folder} have no setting in common: they share no method and draft length")
    return Comparison(
        differences=list(set_up_differences(a.document, b.document)),
        settings=[_compared(label, a, mine[label], b, theirs[label]) for label in common],
        only_a=[label for label in mine if label not in theirs],
        only_b=[label for label in theirs if label not in mine],
    )


def set_up_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    """Everything in two run.json that bears on the figures and is not the same, by its dotted name."""
    kinds = [_kind(document) for document in (a, b)]
    first, second = (_set_up(document, kinds[0] == kinds[1]) for document in (a, b))
    for what in dict.fromkeys([*first, *second]):
        if first.get(what) != second.get(what):
            yield Difference(what, first.get(what), second.get(what))


def _kind(document: Mapping[str, Any]) -> str:
    return "aiflow sweep" if "spec" in document else "aiflow run"


def _set_up(document: Mapping[str, Any], same_kind: bool) -> dict[str, Any]:
    """A run and a sweep tell pairs and links in one form here; their settings are compared only with those of their own kind."""
    told: dict[str, Any] = {"made by": _kind(document)}
    told |= {part: document[part] for part in _PARTS if part in document}
    if same_kind:
        told["settings"] = document.get("settings") or document.get("spec") or {}
    told["pairs"], links = (_several(document, part) for part in ("pair", "link"))
    told["links"] = [_link_text(link) for link in links]
    provenance = document.get("provenance") or {}
    told |= {part: provenance[part] for part in _PROVENANCE if part in provenance}
    return dict(_flat(told, ""))


def _several(document: Mapping[str, Any], part: str) -> list[Any]:
    found = document.get(f"{part}s") or document.get(part) or []
    return [found] if isinstance(found, dict) else list(found)


def _link_text(link: Any) -> str:
    try:
        found = link_of({"link": link})
    except (AiflowError, TypeError, AttributeError):
        return str(link)  # of a form that this version does not know: shown as it stands
    return f"{link_label(found)}, burst {found.burst_bytes} B"


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for place, inner in enumerate(value):
            yield from _flat(inner, f"{name}.{inner['name'] if isinstance(inner, dict) and 'name' in inner else place}")
    else:
        yield name, value


def _arms(result: Result, other: Result) -> dict[str, Key]:
    """The settings of a result by a label that fits both: pair and link are named only where either result has several."""
    pairs = len(result.pairs) > 1 or len(other.pairs) > 1
    links = len(result.links) > 1 or len(other.links) > 1
    keys: dict[Key, None] = {}
    for record in result.records:
        keys.setdefault((record["pair"], link_of(record), record["method"], record["gamma"]))
    order = sorted(keys, key=lambda k: (k[2] != BASELINE, k[0], link_label(k[1]), k[2], k[3] or 0))
    return {_label(key, pairs, links): key for key in order}


def _label(key: Key, pairs: bool, links: bool) -> str:
    pair, link, method, gamma = key
    parts = [pair] if pairs else []
    parts += [link_label(link)] if links and method != ON_DEVICE else []
    return ", ".join([*parts, method if gamma is None else f"{method} γ {gamma}"])


Unit = Callable[[Record], str]


def _compared(label: str, a: Result, key_a: Key, b: Result, key_b: Key) -> Compared:
    first, second = _trials(a, key_a), _trials(b, key_b)
    unit = _image if _on_one_node_each(first) and _on_one_node_each(second) else metrics.unit
    units, others = {unit(r) for r in first}, {unit(r) for r in second}
    paired = _same_data(a, b) and bool(units & others)
    return Compared(
        setting=label,
        images=len(units & others) if paired else min(len(units), len(others)),
        trials_a=len(first),
        trials_b=len(second),
        paired=paired,
        decode_tpot_a_ms=_in_ms(first),
        decode_tpot_b_ms=_in_ms(second),
        decode_tpot_ratio=_ratio(second, first, metrics.decode_tpot, paired, unit),
        latency_ratio=_ratio(second, first, metrics.latency_per_token, paired, unit),
        speedup_a=_speedup(a, key_a, first),
        speedup_b=_speedup(b, key_b, second),
    )


def _image(record: Record) -> str:
    return str(record["image_id"])


def _on_one_node_each(records: Sequence[Record]) -> bool:
    """Whether no image was captioned on several machines."""
    return len({_image(r) for r in records}) == len({metrics.unit(r) for r in records})


def _trials(result: Result, key: Key) -> list[Record]:
    pair, link, method, gamma = key
    return result.trials(Series(pair, link), method, gamma)


def _same_data(a: Result, b: Result) -> bool:
    prints = [(result.document.get("data") or {}).get("fingerprint") for result in (a, b)]
    return prints[0] is not None and prints[0] == prints[1]


def _in_ms(records: Sequence[Record]) -> Interval | None:
    interval = ratio_interval(metrics.by_image(records, metrics.decode_tpot))
    return None if interval is None else interval.times(1e3)


def _ratio(
    over: Sequence[Record], under: Sequence[Record], metric: Metric, paired: bool, unit: Unit
) -> Interval | None:
    ratio = speedup_interval if paired else unpaired_ratio_interval
    return ratio(metrics.by_image(over, metric, unit), metrics.by_image(under, metric, unit))


def _speedup(result: Result, key: Key, records: Sequence[Record]) -> Interval | None:
    pair, link, method, _ = key
    if method == BASELINE:
        return None
    base = result.trials(Series(pair, link), BASELINE)
    return speedup_interval(metrics.by_image(base, metrics.decode_tpot), metrics.by_image(records, metrics.decode_tpot))
