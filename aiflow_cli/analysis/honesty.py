"""What a reader should know before believing a result: every latency definition side by side, all four baselines, what is slower than expected,
drift, outliers (listed, never dropped), and what in the set-up bears on the figures.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.curves import Curve
from aiflow_cli.analysis.intervals import Interval, ratio_interval, speedup_interval, too_few, unpaired_ratio_interval
from aiflow_cli.analysis.metrics import Metric, Record
from aiflow_cli.analysis.result import CO_LOCATED, ON_DEVICE, SPECULATIVE, Series, link_label
from aiflow_cli.analysis.study import Study
from aiflow_cli.analysis.summary import BASELINE

OUTLIER_MADS = 6.0
OUTLIER_SHARE = 1.25
"""An outlier is this many (scaled) median deviations, and at least this ratio, above the median pace of its setting."""
_MAD_TO_SIGMA = 1.4826
FEWEST_FOR_OUTLIERS = 5
BUSY_LOAD = 0.5
DRIFT_SHARE = 0.02
"""Drift of less than this is not called one, whatever its interval."""

DEFINITIONS: dict[str, Metric] = {
    "TTFT": metrics.ttft,
    "latency per token": metrics.latency_per_token,
    "TPOT": metrics.tpot,
    "decode TPOT": metrics.decode_tpot,
}
"""The definitions of latency, in the order of `metrics.FORMULAS`."""


class Setting(NamedTuple):
    """A method and draft length of one pair over one link."""

    series: Series
    method: str
    gamma: int | None

    @property
    def label(self) -> str:
        """`speculative, γ 4`."""
        return self.method if self.gamma is None else f"{self.method}, γ {self.gamma}"


class DefinitionRow(NamedTuple):
    """All definitions for one setting, in milliseconds, and the speed-up over server-only by each but TTFT."""

    series: str
    setting: str
    times_ms: dict[str, Interval | None]
    speedups: dict[str, Interval | None]


class BaselineRow(NamedTuple):
    """A baseline of one series: speed-ups over server-only, or None where it was not measured."""

    series: str
    name: str
    output: str
    by_decode_tpot: Interval | None
    by_latency: Interval | None
    note: str


class Outlier(NamedTuple):
    """A trial far slower than its setting's median: its pace (a round's or step's time) over the median's."""

    trial: str
    setting: str
    image_id: str
    ratio: float


@dataclass(frozen=True)
class Honesty:
    """The panel."""

    definitions: list[DefinitionRow]
    baselines: list[BaselineRow]
    slower: list[str]
    drift: list[str]
    outliers: list[Outlier]
    notes: list[str]


def examine(study: Study) -> Honesty:
    """The panel of a result. Raises UsageError, StoreError where it cannot be analysed."""
    return Honesty(
        definitions=list(_definitions(study)),
        baselines=[row for curve in study.curves for row in _baselines(study, curve)],
        slower=list(_slower(study)),
        drift=list(_drift(study)),
        outliers=outliers(study.result.records),
        notes=list(_notes(study)),
    )


def _definitions(study: Study) -> Iterator[DefinitionRow]:
    for curve in study.over(study.reference_link):
        series = curve.series
        settings = [Setting(series, BASELINE, None)]
        settings += [
            Setting(series, SPECULATIVE, g)
            for g in dict.fromkeys((curve.gammas[0], curve.best.gamma, curve.gammas[-1]))
        ]
        settings += [Setting(series, CO_LOCATED, c.best.gamma) for c in study.co_located if c.series == series]
        settings.append(Setting(series, ON_DEVICE, None))
        for setting in settings:
            records = study.result.trials(*setting)
            if records:
                yield _definition_row(study, curve, setting, records)


def _definition_row(study: Study, curve: Curve, setting: Setting, records: Sequence[Record]) -> DefinitionRow:
    base = study.result.trials(setting.series, BASELINE)
    times = {name: _in_ms(ratio_interval(metrics.by_image(records, metric))) for name, metric in DEFINITIONS.items()}
    speedups = {
        name: None if setting.method == BASELINE else _speedup(base, records, metric)
        for name, metric in DEFINITIONS.items()
        if name != "TTFT"
    }
    return DefinitionRow(curve.label, setting.label, times, speedups)


def _speedup(base: Sequence[Record], records: Sequence[Record], metric: Metric) -> Interval | None:
    return speedup_interval(metrics.by_image(base, metric), metrics.by_image(records, metric))


def _in_ms(interval: Interval | None) -> Interval | None:
    return None if interval is None else interval.times(1e3)


def _baselines(study: Study, curve: Curve) -> Iterator[BaselineRow]:
    label, best = curve.label, curve.best
    yield BaselineRow(label, "server-only", "the target's", Interval(1), Interval(1), "the paper's baseline")
    yield BaselineRow(
        label,
        f"best fixed γ for this link: {best.gamma}",
        "the target's",
        best.speedup,
        best.speedup_latency,
        "device-edge speculation",
    )
    co_located = next((c for c in study.co_located if c.series == curve.series), None)
    if co_located is None:
        yield BaselineRow(
            label, "co-located speculation", "the target's", None, None, "not measured: add the method `co-located`"
        )
    else:
        name, other = f"co-located speculation, γ {co_located.best.gamma}", co_located.best
        yield BaselineRow(
            label,
            name,
            "the target's",
            other.speedup,
            other.speedup_latency,
            "both models on the server, no rounds over the link",
        )
    on_device = study.on_device(curve.series)
    note = "the draft model alone, no link" if on_device else "not measured: add the method `on-device`"
    by_latency = study.on_device(curve.series, metrics.latency_per_token)
    yield BaselineRow(label, "on-device", "the draft's: another one", on_device, by_latency, note)


def _slower(study: Study) -> Iterator[str]:
    for curve in study.curves:
        if curve.too_few:
            yield f"{_where(study, curve)}: not judged: {curve.too_few}"
            continue
        lost = [p for p in curve.points if p.speedup.value < 1]
        if lost:
            told = ", ".join(f"γ {p.gamma}: {p.speedup:.2f}" for p in lost)
            yield f"{_where(study, curve)}: slower than server-only by decode TPOT at {told}"
        gained = [p.gamma for p in curve.points if p.speedup.value >= 1 > p.speedup_latency.value]
        if gained:
            yield f"{_where(study, curve)}: faster by decode TPOT but slower by latency per token at γ {', '.join(map(str, gained))}"
        yield from _beaten(study, curve)
        yield from _off_the_form(study, curve)


def _beaten(study: Study, curve: Curve) -> Iterator[str]:
    mine = study.result.trials(curve.series, SPECULATIVE, curve.best.gamma)
    for other in study.co_located:
        if other.series != curve.series:
            continue
        theirs = study.result.trials(other.series, CO_LOCATED, other.best.gamma)
        ratio = _speedup(mine, theirs, metrics.decode_tpot)
        if ratio is not None and ratio.known and ratio.value > 1:
            sure = "" if ratio.low > 1 else ", which the interval does not decide"
            yield (
                f"{_where(study, curve)}: co-located speculation (γ {other.best.gamma}) is {ratio:.2f} "
                f"times as fast as device-edge (γ {curve.best.gamma}){sure}"
            )


def _off_the_form(study: Study, curve: Curve) -> Iterator[str]:
    off = [(p.speedup.value / curve.fit.model.speedup(p.gamma) - 1, p.gamma) for p in curve.points]
    worst, gamma = max(off, key=lambda pair: abs(pair[0]))
    if abs(worst) > 0.1:
        yield f"{_where(study, curve)}: measured speed-up is {100 * worst:+.0f} % off the closed form at γ {gamma}"


def _where(study: Study, curve: Curve) -> str:
    return curve.series.pair if len(study.links) == 1 else f"{curve.series.pair}, {link_label(curve.series.link)}"


def _drift(study: Study) -> Iterator[str]:
    """Server-only's pace in the last third of the blocks over that in the first third, target by target."""
    seen: set[tuple[str, object]] = set()
    for curve in study.curves:
        key = (study.result.target(curve.series.pair), curve.series.link)
        if key in seen:
            continue
        seen.add(key)
        yield _drift_line(study, curve)


def _drift_line(study: Study, curve: Curve) -> str:
    records = study.result.trials(curve.series, BASELINE)
    blocks = sorted({_block(r) for r in records})
    third = len(blocks) // 3
    where = "server-only" if len(study.links) == 1 else f"server-only, {link_label(curve.series.link)}"
    if not third:
        return f"{where}: {len(blocks)} blocks are too few to show drift"
    early, late = set(blocks[:third]), set(blocks[-third:])
    first = metrics.by_image([r for r in records if _block(r) in early], metrics.decode_tpot)
    last = metrics.by_image([r for r in records if _block(r) in late], metrics.decode_tpot)
    ratio = unpaired_ratio_interval(last, first)
    if ratio is None:
        return f"{where}: no decode steps to compare"
    told = f"decode TPOT of the last third of {len(blocks)} blocks is {ratio:.2f} times that of the first"
    if not ratio.known:
        return f"{where}: {told}; drift is not judged ({too_few(min(len(first), len(last)))})"
    shown = not ratio.low <= 1 <= ratio.high and abs(ratio.value - 1) > DRIFT_SHARE
    sure = "drift" if shown else "no drift shown"
    return f"{where}: {sure}: {told}; settings are interleaved within blocks, so it hits all alike"


def _block(record: Record) -> tuple[str, int]:
    return str(record.get("node") or ""), int(record.get("block", 0))


def outliers(records: Iterable[Record]) -> list[Outlier]:
    """Trials whose rounds (or decode steps) took far longer than the median of their setting, the worst first. They stay in every figure."""
    groups: dict[tuple[object, ...], list[tuple[Record, float]]] = {}
    for record in records:
        pace = _pace(record)
        if pace is not None:
            key = (record.get("node"), record["pair"], str(record["link"]), record["method"], record["gamma"])
            groups.setdefault(key, []).append((record, pace))
    found = [
        outlier for group in groups.values() if len(group) >= FEWEST_FOR_OUTLIERS for outlier in _outliers_of(group)
    ]
    return sorted(found, key=lambda outlier: -outlier.ratio)


def _pace(record: Record) -> float | None:
    metric: Callable[[Record], metrics.Ratio] = metrics.per_round("wall_s") if record["rounds"] else metrics.decode_tpot
    part = metric(record)
    return part.over / part.under if part.under else None


def _outliers_of(group: Sequence[tuple[Record, float]]) -> Iterator[Outlier]:
    middle = statistics.median(pace for _, pace in group)
    spread = _MAD_TO_SIGMA * statistics.median(abs(pace - middle) for _, pace in group)
    for record, pace in group:
        if pace > middle + OUTLIER_MADS * spread and pace > OUTLIER_SHARE * middle:
            gamma = "" if record["gamma"] is None else f", γ {record['gamma']}"
            yield Outlier(
                record["trial"], f"{record['pair']} {record['method']}{gamma}", record["image_id"], pace / middle
            )


def _notes(study: Study) -> Iterator[str]:
    result = study.result
    if result.unfinished:
        of = f" of {result.planned}" if result.planned else ""
        yield f"the run is not complete: {len(result.records)}{of} trials; all figures are preliminary"
    for curve in (*study.curves, *study.co_located):
        if curve.left_out:
            yield f"{_where(study, curve)}, {curve.method}: {curve.left_out} trials of images that lack a setting are left out of its curve"
    if small_pair_on_photographs(study):
        yield (
            f"the captions are wrong: the small pair has seen rendered scenes only, and {result.data_name} are other pictures. "
            "Times, bytes and identity are measured all the same; acceptance says nothing about photographs"
        )
    yield from _machine_notes(study)


def small_pair_on_photographs(study: Study) -> bool:
    """Whether the pair that knows rendered scenes only was shown something else."""
    return study.result.data_name not in ("scenes", "unknown data") and any(
        pair.split("-")[0] == "small" for pair in study.result.pairs
    )


def _machine_notes(study: Study) -> Iterator[str]:
    result, provenance = study.result, study.result.provenance
    cpu, load = provenance.get("cpu") or {}, provenance.get("load_at_start") or [0.0]
    if cpu.get("usable_cores", 2) < 2:
        yield "device and server shared one core: they took turns, so times are too long"
    if load[0] > BUSY_LOAD:
        yield f"the machine was busy at the start (load {load[0]:.1f} on {cpu.get('usable_cores', '?')} cores): absolute times are too long"
    if (provenance.get("git") or {}).get("dirty"):
        yield "the code had uncommitted changes"
    if mixed := result.document.get("mixed"):
        yield f"trials were made under {len(mixed) + 1} set-ups, mixed at the user's wish: {mixed[0].get('changed', mixed[0])}"
    if len(result.nodes) > 1:
        yield f"{len(result.nodes)} nodes took part ({', '.join(result.nodes)}): comparisons are paired within a node"
    if few := too_few(len({metrics.unit(record) for record in result.records})):
        yield few
