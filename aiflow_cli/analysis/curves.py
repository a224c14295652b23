"""Measured curves over the draft length: points with intervals, optimum, break-even, and comparisons between draft lengths.

Everything of one curve is computed over the same images, those that have all its draft lengths and server-only; each resample draws the same
images for every draft length and for server-only, so optimum and break-even have intervals too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.fit import Fit, fit
from aiflow_cli.analysis.intervals import (
    Array,
    Interval,
    divide,
    percentiles,
    ratio_interval,
    resample_counts,
    speedup_interval,
    too_few,
)
from aiflow_cli.analysis.metrics import Metric, Record
from aiflow_cli.analysis.result import SPECULATIVE, Result, Series
from aiflow_cli.analysis.summary import BASELINE
from aiflow_cli.errors import StoreError, UsageError

NEVER, BEYOND = 0.0, math.inf
"""A break-even of a curve that wins nowhere, and of one that still wins at its last draft length."""


@dataclass(frozen=True)
class Point:
    """One draft length. Times in milliseconds; speed-ups over server-only by decode TPOT and by latency per token."""

    gamma: int
    trials: int
    decode_tpot_ms: Interval
    latency_per_token_ms: Interval
    speedup: Interval
    speedup_latency: Interval
    tokens_per_round: Interval
    draft_acceptance: Interval


@dataclass(frozen=True)
class Line:
    """Server-only (or on-device) beside a curve. Times in milliseconds."""

    trials: int
    decode_tpot_ms: Interval
    latency_per_token_ms: Interval


@dataclass(frozen=True)
class Curve:
    """One method over draft lengths, for one pair and link. `images` have all draft lengths; `left_out` trials are of others.

    `optimum` is the draft length of the lowest decode TPOT; `break_even` lies between draft lengths, NEVER or BEYOND.
    """

    series: Series
    label: str
    method: str
    images: int
    left_out: int
    points: tuple[Point, ...]
    baseline: Line
    optimum: Interval
    break_even: Interval
    fit: Fit
    _tpots: Array
    """Decode TPOT by resample (the first row: all images as they are) and draft length."""

    @property
    def gammas(self) -> list[int]:
        """The draft lengths."""
        return [point.gamma for point in self.points]

    @property
    def best(self) -> Point:
        """The point at the optimum."""
        return self.at(int(self.optimum.value))

    def at(self, gamma: int) -> Point:
        """The point at a draft length that was measured."""
        return self.points[self.gammas.index(gamma)]

    def tpot_ratio(self, gamma: int, other: int) -> Interval:
        """Decode TPOT at `gamma` over that at `other`."""
        sample = self._tpots[:, self.gammas.index(gamma)] / self._tpots[:, self.gammas.index(other)]
        return percentiles(sample[0], sample[1:], self.images)

    @property
    def too_few(self) -> str | None:
        """Why nothing of it has an interval, or None."""
        return too_few(self.images)


def curve(result: Result, series: Series, method: str = SPECULATIVE) -> Curve:
    """The curve of a method. Raises UsageError without server-only, StoreError where nothing can be compared."""
    baseline = result.trials(series, BASELINE)
    if not baseline:
        raise UsageError(f"{result.folder} has no server-only trials to compare {series.pair} with: measure them too")
    arms = {gamma: result.trials(series, method, gamma) for gamma in result.gammas(series, method)}
    units = _common([baseline, *arms.values()])
    if not units:
        raise StoreError(f"{result.folder}: no image has server-only and every draft length yet: run it further")
    kept = {gamma: _of_units(records, units) for gamma, records in arms.items()}
    base = _of_units(baseline, units)
    if any(not metrics.ratio_of_sums(records, metrics.decode_tpot) for records in (base, *kept.values())):
        raise StoreError(
            f"{result.folder}: answers come in one delivery, so that decode TPOT is not defined: let them be longer"
        )
    if any(metrics.ratio_of_sums(records, metrics.draft_acceptance) is None for records in kept.values()):
        raise StoreError(f"{result.folder}: answers are too short for anything to be drafted: let them be longer")
    order = sorted(units)
    tpots = np.stack([_sample(kept[gamma], order, metrics.decode_tpot) for gamma in kept], axis=1)
    speedups = _sample(base, order, metrics.decode_tpot)[:, None] / tpots
    gammas = np.array(list(kept))
    optima = gammas[np.argmin(tpots, axis=1)].astype(float)
    crossings = break_evens(gammas, speedups)
    return Curve(
        series=series,
        label=result.label(series),
        method=method,
        images=len(units),
        left_out=len(baseline) - len(base) + sum(len(arms[g]) - len(kept[g]) for g in arms),
        points=tuple(_point(gamma, records, base) for gamma, records in kept.items()),
        baseline=line(base),
        optimum=percentiles(optima[0], optima[1:], len(units), "nearest"),
        break_even=percentiles(crossings[0], crossings[1:], len(units), "nearest"),
        fit=fit(base, kept),
        _tpots=tpots,
    )


def curves(result: Result, method: str = SPECULATIVE) -> list[Curve]:
    """The curves of all pairs and links, in their order."""
    return [curve(result, series, method) for series in result.series(method)]


def _common(groups: Sequence[Sequence[Record]]) -> set[str]:
    return set.intersection(*({metrics.unit(record) for record in group} for group in groups))


def _of_units(records: Sequence[Record], units: set[str]) -> list[Record]:
    return [record for record in records if metrics.unit(record) in units]


def _sample(records: Sequence[Record], order: list[str], metric: Metric) -> Array:
    """A metric over all images, then over each resample of them."""
    sums = metrics.by_image(records, metric)
    over = np.array([sums[unit].over for unit in order], float)
    under = np.array([sums[unit].under for unit in order], float)
    weights = np.vstack([np.ones(len(order)), resample_counts(len(order))])
    return divide(weights @ over, weights @ under)


def _point(gamma: int, records: Sequence[Record], base: Sequence[Record]) -> Point:
    return Point(
        gamma=gamma,
        trials=len(records),
        decode_tpot_ms=_ms(records, metrics.decode_tpot),
        latency_per_token_ms=_ms(records, metrics.latency_per_token),
        speedup=_speedup(base, records, metrics.decode_tpot),
        speedup_latency=_speedup(base, records, metrics.latency_per_token),
        tokens_per_round=_defined(ratio_interval(metrics.by_image(records, metrics.tokens_per_round))),
        draft_acceptance=_defined(ratio_interval(metrics.by_image(records, metrics.draft_acceptance))),
    )


def line(records: Sequence[Record]) -> Line:
    """The level of a method without draft length."""
    return Line(len(records), _ms(records, metrics.decode_tpot), _ms(records, metrics.latency_per_token))


def _ms(records: Sequence[Record], metric: Metric) -> Interval:
    return _defined(ratio_interval(metrics.by_image(records, metric))).times(1e3)


def _speedup(base: Sequence[Record], records: Sequence[Record], metric: Metric) -> Interval:
    return _defined(speedup_interval(metrics.by_image(base, metric), metrics.by_image(records, metric)))


def _defined(interval: Interval | None) -> Interval:
    return Interval(math.nan) if interval is None else interval


def break_evens(gammas: np.ndarray, speedups: Array) -> Array:
    """The draft length at which each row of speed-ups [samples, draft lengths] falls below 1 for good, between draft lengths by a
    straight line; NEVER if no draft length wins, BEYOND if the last one does."""
    wins = speedups >= 1
    last = speedups.shape[1] - 1 - np.argmax(wins[:, ::-1], axis=1)
    following = np.minimum(last + 1, speedups.shape[1] - 1)
    rows = np.arange(len(speedups))
    above, below = speedups[rows, last], speedups[rows, following]
    share = divide(above - 1, above - below)
    crossing = gammas[last] + share * (gammas[following] - gammas[last])
    crossing = np.where(last == speedups.shape[1] - 1, BEYOND, crossing)
    return np.where(wins.any(axis=1), crossing, NEVER)


def format_break_even(value: float, last: int) -> str:
    """A break-even in a table: `22.3`, `> 28`, `none`."""
    if value == NEVER:
        return "none"
    return f"> {last}" if math.isinf(value) else f"{value:.1f}"
