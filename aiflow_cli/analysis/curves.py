"""Measured curves over the draft length: points with intervals, optimum, break-even, comparisons of draft lengths.

Everything of one curve is computed over the same images, those that have all its draft lengths and server-only; each
resample draws the same images for every draft length and for server-only, so optimum and break-even have intervals too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.arms import Arm
from aiflow_cli.analysis.fit import Fit, fit
from aiflow_cli.analysis.intervals import Array, Interval, columns, divide, percentiles, sample
from aiflow_cli.analysis.result import Result, Series
from aiflow_cli.analysis.theory import BEYOND, NEVER
from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import StoreError, UsageError


class Point(NamedTuple):
    """One draft length, beside server-only."""

    gamma: int
    arm: Arm
    base: Arm

    @property
    def speedup(self) -> Interval:
        """Over server-only, by decode TPOT."""
        return self.base.over(self.arm, metrics.decode_tpot)

    @property
    def speedup_latency(self) -> Interval:
        """Over server-only, by latency per token."""
        return self.base.over(self.arm, metrics.latency_per_token)


@dataclass(frozen=True, eq=False)
class Curve:
    """One method over draft lengths, for one pair and link; `left_out` trials are of images that lack a setting.

    `tpots` are decode TPOT and `speedups` those by it, by resample (the first row: all images) and draft length.
    """

    series: Series
    label: str
    method: Method
    left_out: int
    points: tuple[Point, ...]
    baseline: Arm
    tpots: Array
    speedups: Array

    @property
    def gammas(self) -> list[int]:
        """The draft lengths."""
        return [point.gamma for point in self.points]

    @property
    def images(self) -> int:
        """How many images have all of it."""
        return self.baseline.images

    @property
    def too_few(self) -> str | None:
        """Why nothing of it has an interval, or None."""
        return self.baseline.too_few

    @cached_property
    def optimum(self) -> Interval:
        """The draft length of the lowest decode TPOT."""
        return percentiles(np.array(self.gammas, float)[np.argmin(self.tpots, axis=1)], self.images, "nearest")

    @cached_property
    def break_even(self) -> Interval:
        """Where it falls below server-only for good, between draft lengths; NEVER or BEYOND."""
        return percentiles(break_evens(self.gammas, self.speedups), self.images, "nearest")

    @cached_property
    def fit(self) -> Fit:
        """The closed form's numbers."""
        return fit(self.baseline, {point.gamma: point.arm for point in self.points})

    @property
    def best(self) -> Point:
        """The point at the optimum."""
        return self.at(int(self.optimum.value))

    def at(self, gamma: int) -> Point:
        """The point at a draft length that was measured."""
        return self.points[self.gammas.index(gamma)]

    def tpot_ratio(self, gamma: int, other: int | None = None) -> Interval:
        """Decode TPOT at `gamma` over that at `other`; None: over each resample's lowest, as picking flatters it."""
        tpot = self.tpots[:, self.gammas.index(gamma)]
        beside = self.tpots.min(axis=1) if other is None else self.tpots[:, self.gammas.index(other)]
        return percentiles(np.asarray(tpot / beside, float), self.images)


def curve(result: Result, series: Series, method: Method = Method.SPECULATIVE) -> Curve:
    """The curve of a method. Raises UsageError without server-only, StoreError where nothing can be compared."""
    folder, baseline = result.folder, result.baseline(series)
    if not baseline.trials:
        raise UsageError(f"{folder} has no server-only trials to compare {series.pair} with: measure them too")
    arms = {gamma: result.arm(series, method, gamma) for gamma in result.gammas(series, method)}
    units = sorted(frozenset.intersection(baseline.units, *(arm.units for arm in arms.values())))
    if not units:
        raise StoreError(f"{folder}: no image has server-only and every draft length yet: run it further")
    base, kept = baseline.of(units), {gamma: arm.of(units) for gamma, arm in arms.items()}
    if not all(arm.value(metrics.decode_tpot) for arm in (base, *kept.values())):
        raise StoreError(
            f"{folder}: answers come in one delivery, so that decode TPOT is not defined: let them be longer"
        )
    if any(arm.value(metrics.draft_acceptance) is None for arm in kept.values()):
        raise StoreError(f"{folder}: answers are too short for anything to be drafted: let them be longer")
    parts = [columns(arm.sums(metrics.decode_tpot), units) for arm in (base, *kept.values())]

    def times(weights: Array) -> Array:
        return np.stack([divide(weights @ over, weights @ under) for over, under in parts], axis=1)

    sampled = sample(units, times)
    return Curve(
        series=series,
        label=result.label(series),
        method=method,
        left_out=sum(len(arm.trials) - len(arm.of(units).trials) for arm in (baseline, *arms.values())),
        points=tuple(Point(gamma, arm, base) for gamma, arm in kept.items()),
        baseline=base,
        tpots=sampled[:, 1:],
        speedups=sampled[:, :1] / sampled[:, 1:],
    )


def curves(result: Result, method: Method = Method.SPECULATIVE) -> list[Curve]:
    """The curves of all pairs and links, in their order."""
    return [curve(result, series, method) for series in result.series(method)]


def break_evens(lengths: Iterable[int], speedups: Array) -> Array:
    """Where each row of speed-ups [samples, draft lengths] falls below 1 for good, on straight lines; NEVER, BEYOND."""
    gammas, wins = np.array(list(lengths), float), speedups >= 1
    end = speedups.shape[1] - 1
    last = end - np.argmax(wins[:, ::-1], axis=1)
    following, rows = np.minimum(last + 1, end), np.arange(len(speedups))
    above, below = speedups[rows, last], speedups[rows, following]
    crossing = gammas[last] + divide(above - 1, above - below) * (gammas[following] - gammas[last])
    return np.where(wins.any(axis=1), np.where(last == end, BEYOND, crossing), NEVER)
