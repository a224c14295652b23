"""The closed form's numbers (alpha, c, F, s) from measured rounds, with bootstrap intervals.

c and F are read off the clock, not fitted to the curve: the rounds' draft times are regressed on the number of drafts (slope: c; what a
draft costs however short it is goes to F), and so is the rest of the round, verification and network (intercept: F; slope: s). The unit is
server-only's decode TPOT. alpha is the least-squares fit of E(gamma) to the measured tokens per round, weighted by rounds; the share of
judged drafts that were accepted stands beside it. With one draft length, or as many drafts in every round, no slope can be told from an
intercept: then c is draft time per draft, and s is 0, without an interval.

The end of a caption cuts its last round short, which E(gamma) does not know: at long drafts measured tokens per round lie below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.intervals import Array, Interval, divide, percentiles, ratio_interval, resample_counts
from aiflow_cli.analysis.metrics import Record
from aiflow_cli.analysis.theory import CostModel
from aiflow_cli.errors import StoreError

_ALPHAS = np.linspace(0, 0.9995, 2000)


@dataclass(frozen=True)
class Fit:
    """alpha, c, F and s of one series, each with its interval; `accepted_share`: accepted over judged drafts, None if none was judged."""

    alpha: Interval
    draft_cost: Interval
    round_cost: Interval
    verify_slope: Interval
    accepted_share: Interval | None
    step_ms: float
    rounds: int

    @property
    def model(self) -> CostModel:
        """The closed form with the fitted values."""
        return CostModel(
            min(max(self.alpha.value, 0.0), 1.0),
            max(self.draft_cost.value, 0.0),
            max(self.round_cost.value, 1e-9),
            self.verify_slope.value,
        )


class _Costs(NamedTuple):
    """c, F, s by resample, and in all."""

    draft: Array
    round: Array
    slope: Array


def fit(baseline: list[Record], by_gamma: dict[int, list[Record]]) -> Fit:
    """Fit to the rounds of `by_gamma`, in units of server-only's decode TPOT. Raises StoreError where nothing can be fitted."""
    arms = {gamma: records for gamma, records in by_gamma.items() if any(record["rounds"] for record in records)}
    if not arms or not metrics.ratio_of_sums(baseline, metrics.decode_tpot):
        raise StoreError("no rounds, or no server-only decode steps, to fit alpha, c and F to")
    units = sorted({metrics.unit(r) for r in baseline} & {metrics.unit(r) for g in arms.values() for r in g})
    if not units:
        raise StoreError("no image was captioned both by server-only and with drafts: nothing can be fitted")
    weights = np.vstack([np.ones(len(units)), resample_counts(len(units))])
    step = divide(*(weights @ column for column in _columns(baseline, units, metrics.decode_tpot)))
    moments = _moments(arms, units, weights)
    slopes = len(arms) > 1 and bool(moments.spread[0])
    costs = _costs(moments, step, slopes)
    alpha = _alpha(arms, units, weights)
    rounds = [record for records in arms.values() for record in records]
    images = len(units)
    return Fit(
        alpha=percentiles(alpha[0], alpha[1:], images),
        draft_cost=percentiles(costs.draft[0], costs.draft[1:], images),
        round_cost=percentiles(costs.round[0], costs.round[1:], images),
        verify_slope=percentiles(costs.slope[0], costs.slope[1:], images) if slopes else Interval(0.0),
        accepted_share=ratio_interval(metrics.by_image(rounds, metrics.acceptance)),
        step_ms=1e3 * float(step[0]),
        rounds=sum(len(record["rounds"]) for record in rounds),
    )


def _columns(records: list[Record], units: list[str], metric: metrics.Metric) -> tuple[Array, Array]:
    sums = metrics.by_image(records, metric)
    zero = metrics.Ratio(0.0, 0.0)
    parts = [sums.get(unit, zero) for unit in units]
    return np.array([part.over for part in parts], float), np.array([part.under for part in parts], float)


class _Moments(NamedTuple):
    """Sums over rounds, by resample: rounds, drafted, drafted squared, draft time, drafted x draft time, rest, drafted x rest."""

    n: Array
    d: Array
    dd: Array
    draft: Array
    d_draft: Array
    rest: Array
    d_rest: Array

    @property
    def spread(self) -> Array:
        """How much the number of drafts varies, times rounds squared; 0 where every round had as many."""
        return self.n * self.dd - self.d**2


def _moments(arms: dict[int, list[Record]], units: list[str], weights: Array) -> _Moments:
    index = {unit: place for place, unit in enumerate(units)}
    sums = np.zeros((len(units), len(_Moments._fields)))
    for record in (record for records in arms.values() for record in records):
        if (place := index.get(metrics.unit(record))) is None:
            continue
        for r in record["rounds"]:
            d, draft_s, rest_s = r["drafted"], r["draft_s"], r["wall_s"] - r["draft_s"]
            sums[place] += (1, d, d * d, draft_s, d * draft_s, rest_s, d * rest_s)
    return _Moments(*(weights @ sums).T)


def _costs(m: _Moments, step: Array, slopes: bool) -> _Costs:
    if not slopes:
        return _Costs(divide(divide(m.draft, m.d), step), divide(divide(m.rest, m.n), step), np.zeros_like(step))
    draft_slope = divide(m.n * m.d_draft - m.d * m.draft, m.spread)
    rest_slope = divide(m.n * m.d_rest - m.d * m.rest, m.spread)
    intercept = divide(m.draft + m.rest - (draft_slope + rest_slope) * m.d, m.n)
    return _Costs(divide(draft_slope, step), divide(intercept, step), divide(rest_slope, step))


def _alpha(arms: dict[int, list[Record]], units: list[str], weights: Array) -> Array:
    """Least squares over a fine grid: sum of rounds (E(gamma) - tokens per round)^2 is quadratic in E, so a matrix product gives all."""
    gammas = np.array(sorted(arms))[:, None]
    expected = (1 - _ALPHAS ** (gammas + 1)) / (1 - _ALPHAS)
    columns = [_columns(arms[gamma], units, metrics.tokens_per_round) for gamma in sorted(arms)]
    tokens = np.stack([weights @ over for over, _ in columns], axis=1)
    rounds = np.stack([weights @ under for _, under in columns], axis=1)
    errors = rounds @ expected**2 - 2 * tokens @ expected
    return np.asarray(_ALPHAS[np.argmin(errors, axis=1)], float)
