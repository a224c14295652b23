"""The closed form's numbers (alpha, c, F, s) from measured rounds, with bootstrap intervals.

c and F are read off the clock, not fitted to the curve: the rounds' draft times are regressed on the number of drafts
(slope: c; what a draft costs however short it is goes to F), and so is the rest of the round, verification and network
(intercept: F; slope: s). The unit is server-only's decode TPOT. alpha is the least-squares fit of E(gamma) to the
measured tokens per round, weighted by rounds; the share of judged drafts that were accepted stands beside it. With one
draft length, or as many drafts in every round, no slope can be told from an intercept: then c is draft time per draft,
and s is 0, without an interval.

The end of a caption cuts its last round short, which E(gamma) does not know: at long drafts measured tokens per round
lie below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.arms import Arm
from aiflow_cli.analysis.intervals import Array, Interval, columns, divide, images_of, percentiles, sample
from aiflow_cli.analysis.metrics import Unit
from aiflow_cli.analysis.theory import CostModel
from aiflow_cli.errors import StoreError

_ALPHAS = np.linspace(0, 0.9995, 2000)


@dataclass(frozen=True)
class Fit:
    """alpha, c, F and s of one series; `accepted_share`: accepted over judged drafts, None if none was judged.

    `draft_share` is (c + s) / F, on which the form's optimum hangs at a given alpha.
    """

    alpha: Interval
    draft_cost: Interval
    round_cost: Interval
    verify_slope: Interval
    draft_share: Interval
    accepted_share: Interval | None
    step_ms: float

    @property
    def model(self) -> CostModel:
        """The closed form with the fitted values."""
        return CostModel(
            min(max(self.alpha.value, 0.0), 1.0),
            max(self.draft_cost.value, 0.0),
            max(self.round_cost.value, 1e-9),
            self.verify_slope.value,
        )


def fit(baseline: Arm, by_gamma: dict[int, Arm]) -> Fit:
    """Fit to the rounds of `by_gamma`, in units of server-only's decode TPOT. Raises StoreError if none can be."""
    arms = {gamma: arm for gamma, arm in by_gamma.items() if any(trial.rounds for trial in arm.trials)}
    if not arms or not baseline.value(metrics.decode_tpot):
        raise StoreError("no rounds, or no server-only decode steps, to fit alpha, c and F to")
    drafted = Arm(trial for arm in arms.values() for trial in arm.trials)
    units = sorted(baseline.units & drafted.units)
    if not units:
        raise StoreError("no image was captioned both by server-only and with drafts: nothing can be fitted")
    per_unit = _moments(drafted, units)
    over, under = columns(baseline.sums(metrics.decode_tpot), units)
    slopes = len(arms) > 1 and bool(_Moments(*per_unit.sum(0)).spread)

    def costs(weights: Array) -> Array:
        found = _costs(_Moments(*(weights @ per_unit).T), slopes)
        return divide(np.stack(found), divide(weights @ over, weights @ under)[None]).T

    draft_cost, round_cost, verify_slope = values = sample(units, costs).T
    images = images_of(units)
    alpha = sample(units, lambda weights: _alpha(arms, units, weights))
    return Fit(
        alpha=percentiles(alpha, images),
        draft_cost=percentiles(draft_cost, images),
        round_cost=percentiles(round_cost, images),
        verify_slope=percentiles(verify_slope, images) if slopes else Interval(0.0),
        draft_share=percentiles(divide(draft_cost + verify_slope, values[1]), images),
        accepted_share=drafted.interval(metrics.acceptance),
        step_ms=1e3 * float(over.sum() / under.sum()),
    )


class _Moments(NamedTuple):
    """Sums over rounds: rounds, drafted, its square, draft time, drafted x draft time, rest, drafted x rest."""

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


def _moments(drafted: Arm, units: Sequence[Unit]) -> Array:
    """The moments of each unit, [units, moments]."""
    index = {unit: place for place, unit in enumerate(units)}
    sums = np.zeros((len(units), len(_Moments._fields)))
    for trial in drafted.of(index).trials:
        for r in trial.rounds:
            d, draft_s, rest_s = r.drafted, r.draft_s, r.wall_s - r.draft_s
            sums[index[metrics.unit(trial)]] += (1, d, d * d, draft_s, d * draft_s, rest_s, d * rest_s)
    return sums


def _costs(m: _Moments, slopes: bool) -> tuple[Array, Array, Array]:
    """A draft step, the rest of a round, and a further draft's share in that, in seconds."""
    if not slopes:
        return divide(m.draft, m.d), divide(m.rest, m.n), np.zeros_like(m.n)
    draft_slope = divide(m.n * m.d_draft - m.d * m.draft, m.spread)
    rest_slope = divide(m.n * m.d_rest - m.d * m.rest, m.spread)
    return draft_slope, divide(m.draft + m.rest - (draft_slope + rest_slope) * m.d, m.n), rest_slope


def _alpha(arms: dict[int, Arm], units: Sequence[Unit], weights: Array) -> Array:
    """Least squares over a fine grid: sum of rounds (E - tokens per round)^2 is quadratic in E: a product gives all."""
    gammas = np.array(list(arms))[:, None]
    expected = (1 - _ALPHAS ** (gammas + 1)) / (1 - _ALPHAS)
    parts = [columns(arm.sums(metrics.tokens_per_round), units) for arm in arms.values()]
    tokens, rounds = (np.stack([weights @ part[side] for part in parts], axis=1) for side in (0, 1))
    return np.asarray(_ALPHAS[np.argmin(rounds @ expected**2 - 2 * tokens @ expected, axis=1)], float)
