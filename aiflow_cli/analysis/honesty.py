"""What a reader should know before believing a result: every latency definition side by side, all four baselines, what
is slower than expected, drift, outliers (listed, never dropped), and what in the set-up bears on the figures.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.arms import Arm
from aiflow_cli.analysis.curves import Curve
from aiflow_cli.analysis.intervals import Chance, Interval, apart_interval, too_few
from aiflow_cli.analysis.metrics import DEFINITIONS
from aiflow_cli.analysis.result import Result, link_label
from aiflow_cli.analysis.study import Study
from aiflow_cli.decoding.methods import Method
from aiflow_cli.world.record import Trial

OUTLIER_MADS = 6.0
OUTLIER_SHARE = 1.25
"""An outlier is this many (scaled) median deviations, and at least this ratio, above its setting's median pace."""
FEWEST_FOR_OUTLIERS = 5
BUSY_LOAD = 0.5
DRIFT_SHARE = 0.02
"""Drift of less than this is not called one, whatever its interval."""


class Row(NamedTuple):
    """A setting by every definition of latency: its times in milliseconds, and its speed-ups over server-only."""

    series: str
    setting: str
    times_ms: dict[str, Interval]
    speedups: dict[str, Interval]
    output: str
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

    definitions: list[Row]
    baselines: list[Row]
    slower: list[str]
    drift: list[str]
    outliers: list[Outlier]
    notes: list[str]


def examine(study: Study) -> Honesty:
    """The panel of a result. Raises UsageError, StoreError where it cannot be analysed."""
    where = {study.result.baseline(curve.series): _where(study, curve) for curve in study.curves}
    return Honesty(
        definitions=[row for curve in study.over(study.reference_link) for row in _definitions(study, curve)],
        baselines=[row for curve in study.curves for row in _baselines(study, curve)],
        slower=[line for curve in study.curves for line in _slower(study, curve)],
        drift=[f"server-only{of}: {_drift(arm)}" for arm, of in where.items()],
        outliers=outliers(study.result.trials),
        notes=[*_notes(study), *_machine_notes(study.result)],
    )


def _where(study: Study, curve: Curve) -> str:
    """What tells server-only beside a curve from others: its target, its link."""
    target = f", {study.result.target(curve.series.pair)}" if len(study.by_target(study.curves)) > 1 else ""
    link = f", {link_label(curve.series.link)}" if len(study.links) > 1 else ""
    return f"{target}{link}"


def _row(curve: Curve, setting: str, base: Arm, arm: Arm, note: str = "", output: str = "the target's") -> Row:
    """`base`: server-only's trials of the images that `arm` stands for, so that figures show the same speed-ups."""
    times = {name: arm.ms(metric) for name, metric in DEFINITIONS.items()}
    speedups = {name: base.over(arm, metric) for name, metric in DEFINITIONS.items()}
    return Row(curve.label, setting, times, speedups, output, note)


def _definitions(study: Study, curve: Curve) -> Iterator[Row]:
    """Server-only, the shortest, the best and the longest draft, and the other baselines where they were measured."""
    base, alone = (study.result.arm(curve.series, method) for method in (Method.SERVER_ONLY, Method.ON_DEVICE))
    undefined = dict.fromkeys(DEFINITIONS, Interval())
    yield _row(curve, "server-only", curve.baseline, curve.baseline)._replace(speedups=undefined)
    for gamma in dict.fromkeys((curve.gammas[0], curve.best.gamma, curve.gammas[-1])):
        yield _row(curve, f"speculative, γ {gamma}", curve.baseline, curve.at(gamma).arm)
    if other := study.co_located_of(curve.series):
        yield _row(curve, f"co-located, γ {other.best.gamma}", other.baseline, other.best.arm)
    if alone.trials:
        yield _row(curve, "on-device", base, alone)


def _baselines(study: Study, curve: Curve) -> Iterator[Row]:
    base, alone = (study.result.arm(curve.series, method) for method in (Method.SERVER_ONLY, Method.ON_DEVICE))
    itself = dict.fromkeys(DEFINITIONS, Interval(1))
    yield _row(curve, "server-only", curve.baseline, curve.baseline, "the paper's baseline")._replace(speedups=itself)
    fixed = f"best fixed γ for this link: {curve.best.gamma}"
    yield _row(curve, fixed, curve.baseline, curve.best.arm, "device-edge speculation")
    if other := study.co_located_of(curve.series):
        name = f"co-located speculation, γ {other.best.gamma}"
        note = "both models on the server, no rounds over the link"
        yield _row(curve, name, other.baseline, other.best.arm, note)
    else:
        yield _row(curve, "co-located speculation", base, Arm(()), "not measured: add the method `co-located`")
    note = "the draft model alone, no link" if alone.trials else "not measured: add the method `on-device`"
    yield _row(curve, "on-device", base, alone, note, "the draft's: another one")


def _slower(study: Study, curve: Curve) -> Iterator[str]:
    where = study.where(curve)
    if curve.too_few:
        yield f"{where}: not judged: {curve.too_few}"
        return
    lost = ", ".join(f"γ {p.gamma}: {p.speedup:.2f}" for p in curve.points if p.speedup.value < 1)
    if lost:
        yield f"{where}: slower than server-only by decode TPOT at {lost}"
    gained = ", ".join(str(p.gamma) for p in curve.points if p.speedup.value >= 1 > p.speedup_latency.value)
    if gained:
        yield f"{where}: faster by decode TPOT but slower by latency per token at γ {gained}"
    if other := study.co_located_of(curve.series):
        ratio = curve.best.arm.over(other.best.arm, metrics.decode_tpot)
        if ratio.known and ratio.value > 1:
            sure = "" if ratio.low > 1 else ", which the interval does not decide"
            faster = f"co-located speculation (γ {other.best.gamma}) is {ratio:.2f} times as fast as device-edge"
            yield f"{where}: {faster} (γ {curve.best.gamma}){sure}"
    off = [(p.speedup.value / curve.fit.model.speedup(p.gamma) - 1, p.gamma) for p in curve.points]
    worst, gamma = max(off, key=lambda pair: abs(pair[0]))
    if abs(worst) > 0.1:
        yield f"{where}: measured speed-up is {100 * worst:+.0f} % off the closed form at γ {gamma}"


def _drift(arm: Arm) -> str:
    """Server-only's pace in the last third of the blocks of each node and session, over that in the first."""
    blocks: dict[tuple[str, int], set[int]] = {}
    for t in arm.trials:
        blocks.setdefault((t.node, t.session), set()).add(t.block)
    third, n = min(map(len, blocks.values())) // 3, sum(map(len, blocks.values()))
    if not third:
        return f"{n} blocks are too few to show drift"
    ordered = {key: sorted(of) for key, of in blocks.items()}
    first, last = (
        Arm(t for t in arm.trials if t.block in ordered[t.node, t.session][part])
        for part in (slice(third), slice(-third, None))
    )
    # other images early and late, in the same sessions
    ratio = apart_interval(last.sums(metrics.decode_tpot), first.sums(metrics.decode_tpot), Chance(images=1))
    if not ratio.defined:
        return "no decode steps to compare"
    told = f"decode TPOT of the last third of {n} blocks is {ratio:.2f} times that of the first"
    if not ratio.known:
        return f"{told}; drift is not judged ({too_few(min(first.images, last.images))})"
    shown = not ratio.low <= 1 <= ratio.high and abs(ratio.value - 1) > DRIFT_SHARE
    sure = "drift" if shown else "no drift shown"
    return f"{sure}: {told}; settings are interleaved within blocks, so it hits all alike"


def outliers(trials: Iterable[Trial]) -> list[Outlier]:
    """Trials whose rounds (or decode steps) took far longer than their setting's median; they stay in every figure."""
    from scipy.stats import median_abs_deviation

    groups: dict[tuple[object, ...], list[tuple[Trial, float]]] = {}
    for trial in trials:
        over, under = metrics.round_wall(trial) if trial.rounds else metrics.decode_tpot(trial)
        if under:
            groups.setdefault((trial.node, trial.session, trial.setting), []).append((trial, over / under))
    found = []
    for group in (group for group in groups.values() if len(group) >= FEWEST_FOR_OUTLIERS):
        paces = [pace for _, pace in group]
        middle, spread = statistics.median(paces), median_abs_deviation(paces, scale="normal")
        for trial, pace in group:
            if pace > max(middle + OUTLIER_MADS * spread, OUTLIER_SHARE * middle):
                s = trial.setting
                setting = f"{s.pair} {s.method.value}" + ("" if s.gamma is None else f", γ {s.gamma}")
                found.append(Outlier(trial.trial, setting, trial.image_id, pace / middle))
    return sorted(found, key=lambda outlier: -outlier.ratio)


def _notes(study: Study) -> Iterator[str]:
    result = study.result
    short = result.planned is not None and len(result.trials) < result.planned
    if short or result.provenance.get("finished_at", "unknown") is None:
        of = f" of {result.planned}" if result.planned else ""
        yield f"the run is not complete: {len(result.trials)}{of} trials; all figures are preliminary"
    if failed := result.document.get("failed"):
        yield f"{len(failed)} trial{'s' * (len(failed) > 1)} failed: {failed[0].get('trial')}: {failed[0].get('error')}"
    for curve in (*study.curves, *study.co_located):
        if curve.left_out:
            why = f"{curve.left_out} trials of images that lack a setting are left out of its curve"
            yield f"{study.where(curve)}, {curve.method.value}: {why}"
    if small_pair_on_photographs(study):
        yield (
            f"the captions are wrong: the small pair has seen rendered scenes only, and {result.data_name} are other "
            "pictures. Times, bytes and identity are measured all the same; acceptance says nothing about photographs"
        )


def small_pair_on_photographs(study: Study) -> bool:
    """Whether the pair that knows rendered scenes only was shown something else."""
    scenes = study.result.data_name in ("scenes", "unknown data")
    return not scenes and any(pair.split("-")[0] == "small" for pair in study.result.pairs)


def _machine_notes(result: Result) -> Iterator[str]:
    provenance = result.provenance
    cpu, load = provenance.get("cpu") or {}, (provenance.get("load_at_start") or [0.0])[0]
    if cpu.get("usable_cores", 2) < 2:
        yield "device and server shared one core: they took turns, so times are too long"
    if load > BUSY_LOAD:
        cores = cpu.get("usable_cores", "?")
        yield f"the machine was busy at the start (load {load:.1f} on {cores} cores): absolute times are too long"
    if (provenance.get("git") or {}).get("dirty"):
        yield "the code had uncommitted changes"
    if mixed := result.document.get("mixed"):
        how = mixed[0].get("changed", mixed[0])
        yield f"trials were made under {len(mixed) + 1} set-ups, mixed at the user's wish: {how}"
    if len(nodes := result.everything.nodes) > 1:
        yield f"{len(nodes)} nodes took part ({', '.join(nodes)}): comparisons are paired within a node"
    if few := result.everything.too_few:
        yield few
