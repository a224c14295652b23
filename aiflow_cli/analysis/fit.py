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
    """alpha, c, F and s of one series; `accepted_share`: accepted over judged drafts.

    `draft_share` is (c + s) / F, on which the form's optimum hangs at a given alpha.
    """

    alpha: Interval
    draft_cost: Interval
    round_cost: Interval
    verify_slope: Interval
    draft_share: Interval
    accepted_share: Interval
    step_ms: float

    @property
    def model(self) -> CostModel:
        """The closed form with the fitted values."""
        alpha, draft_cost = min(max(self.alpha.value, 0.0), 1.0), max(self.draft_cost.value, 0.0)
        return CostModel(alpha, draft_cost, max(self.round_cost.value, 1e-9), self.verify_slope.value)


def fit(baseline: Arm, by_gamma: dict[int, Arm]) -> Fit:
    """Fit to the rounds of `by_gamma`, in units of server-only's decode TPOT. Raises StoreError if none can be."""
    arms = {gamma: arm for gamma, arm in by_gamma.items() if any(trial.rounds for trial in arm.trials)}
    if not arms or not baseline.value(metrics.decode_tpot):
        raise StoreError("no rounds, or no server-only decode steps, to fit alpha, c and F to")
    drafted = Arm(trial for arm in arms.values() for trial in arm.trials)
    units = sorted(baseline.units & drafted.units)
    if not units:
        raise StoreError("no image was captioned both by server-only and with drafts: nothing can be fitted")
    products, images = _products(drafted, units), images_of(units)
    over, under = columns(baseline.sums(metrics.decode_tpot), units)
    (n, d), (_, dd) = products.sum(0)[:2, :2]
    slopes = len(arms) > 1 and n * dd > d**2  # else every round drafted as many

    def costs(weights: Array) -> Array:
        found = _costs(np.tensordot(weights, products, 1), slopes)
        return divide(np.stack(found), divide(weights @ over, weights @ under)[None]).T

    draft_cost, round_cost, verify_slope = sample(units, costs).T
    return Fit(
        alpha=percentiles(sample(units, lambda weights: _alpha(arms, units, weights)), images),
        draft_cost=percentiles(draft_cost, images),
        round_cost=percentiles(round_cost, images),
        verify_slope=percentiles(verify_slope, images) if slopes else Interval(0.0),
        draft_share=percentiles(divide(draft_cost + verify_slope, round_cost), images),
        accepted_share=drafted.interval(metrics.acceptance),
        step_ms=1e3 * float(over.sum() / under.sum()),
    )


def _products(drafted: Arm, units: Sequence[Unit]) -> Array:
    """What a regression needs of each unit's rounds, [units, 4, 4]: the sums of all products of two of 1, drafted,
    draft time and the rest of the round's.
    """
    index = {unit: place for place, unit in enumerate(units)}
    sums = np.zeros((len(units), 4, 4))
    for trial in drafted.of(index).trials:
        rounds = np.array([(1, r.drafted, r.draft_s, r.wall_s - r.draft_s) for r in trial.rounds]).reshape(-1, 4)
        sums[index[metrics.unit(trial)]] += rounds.T @ rounds
    return sums


def _costs(products: Array, slopes: bool) -> tuple[Array, Array, Array]:
    """A draft step, the rest of a round, and a further draft's share in that, in seconds; from [rows, 4, 4]."""
    n, d, draft, rest = products[:, 0].T
    _, dd, d_draft, d_rest = products[:, 1].T
    if not slopes:
        return divide(draft, d), divide(rest, n), np.zeros_like(n)
    spread = n * dd - d**2
    draft_slope, rest_slope = divide(n * d_draft - d * draft, spread), divide(n * d_rest - d * rest, spread)
    return draft_slope, divide(draft + rest - (draft_slope + rest_slope) * d, n), rest_slope


def _alpha(arms: dict[int, Arm], units: Sequence[Unit], weights: Array) -> Array:
    """Least squares over a fine grid: sum of rounds (E - tokens per round)^2 is quadratic in E: a product gives all."""
    gammas = np.array(list(arms))[:, None]
    expected = (1 - _ALPHAS ** (gammas + 1)) / (1 - _ALPHAS)
    parts = [columns(arm.sums(metrics.tokens_per_round), units) for arm in arms.values()]
    tokens, rounds = (np.stack([weights @ part[side] for part in parts], axis=1) for side in (0, 1))
    return np.asarray(_ALPHAS[np.argmin(rounds @ expected**2 - 2 * tokens @ expected, axis=1)], float)
