"""Closed forms of device-edge speculation.

With alpha the acceptance rate, and costs in server-only steps (c: one draft step; F: everything else in a round, that
is verification and network; s: what a further draft token adds to verification):

    E(gamma) = (1 - alpha^(gamma + 1)) / (1 - alpha)    tokens per round: Leviathan, Kalman and Matias, ICML 2023, eq. 1
    S(gamma) = E(gamma) / (F + (c + s) gamma)           speed-up over server-only; F = 1, s = 0 is their theorem 3.8

alpha is taken to be the same at every position; measured drafts differ (see conditional acceptance). Calibration: alpha
0.80, c 0.18, F 0.95 gives optimum 4, S(4) = 2.01 and break-even at 22, all figures of arXiv 2411.12469, VI-B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LONGEST_DRAFT = 1000
NEVER, BEYOND = 0.0, math.inf
"""A break-even of what wins nowhere, and of what still wins at the last draft length."""


def expected_tokens(alpha: float, gamma: float) -> float:
    """E(gamma): tokens of a round of gamma drafts, the target's own included. gamma may lie between integers."""
    return gamma + 1 if alpha == 1 else (1 - alpha ** (gamma + 1)) / (1 - alpha)


@dataclass(frozen=True)
class CostModel:
    """Device-edge speculation in four numbers; costs are in server-only steps."""

    alpha: float
    draft_cost: float
    round_cost: float
    verify_slope: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError for what no pair and link can be."""
        if not 0 <= self.alpha <= 1 or self.draft_cost < 0 or self.round_cost <= 0:
            raise ValueError(f"{self} is no cost model: 0 <= alpha <= 1, 0 <= c, 0 < F")

    @property
    def draft_share(self) -> float:
        """(c + s) / F, on which the optimum hangs at a given alpha."""
        return (self.draft_cost + self.verify_slope) / self.round_cost

    def cost(self, gamma: float) -> float:
        """A round, in server-only steps."""
        return self.round_cost + (self.draft_cost + self.verify_slope) * gamma

    def speedup(self, gamma: float) -> float:
        """S(gamma) over server-only."""
        return expected_tokens(self.alpha, gamma) / self.cost(gamma)

    def optimum(self, longest: int = LONGEST_DRAFT) -> int:
        """The draft length (1 to `longest`) of the largest speed-up; the shorter one of two equals."""
        return max(range(1, longest + 1), key=lambda gamma: (self.speedup(gamma), -gamma))

    def break_even(self, longest: int = LONGEST_DRAFT) -> float:
        """The draft length, between integers, from where S < 1; NEVER if S < 1 for all, BEYOND if not at `longest`."""
        from scipy.optimize import brentq

        best = self.optimum(longest)  # S falls from there on
        if self.speedup(best) < 1:
            return NEVER
        return BEYOND if self.speedup(longest) >= 1 else brentq(lambda gamma: self.speedup(gamma) - 1, best, longest)


def format_break_even(value: float, last: int = LONGEST_DRAFT) -> str:
    """A break-even in a table: `22.3`, `> 28`, `none`."""
    if value == NEVER:
        return "none"
    return f"> {last}" if value == BEYOND else f"{value:.1f}"


PAPER = CostModel(alpha=0.80, draft_cost=0.18, round_cost=0.95)
"""The calibration point: no measurement, but what reproduces all figures of the paper at once."""
PAPER_OPTIMUM, PAPER_BREAK_EVEN = 4, 22
"""What arXiv 2411.12469 states in VI-B: the best draft length, and the last draft length that pays."""
