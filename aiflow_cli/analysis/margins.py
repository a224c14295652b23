"""The margins within which a figure is called the paper's, and the verdicts by them: fixed here, no options."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from aiflow_cli.analysis.intervals import Interval

Verdict = Literal["HOLDS", "DIFFERS", "UNDECIDED HERE"]
HOLDS: Verdict = "HOLDS"
DIFFERS: Verdict = "DIFFERS"
UNDECIDED: Verdict = "UNDECIDED HERE"


class Margin(NamedTuple):
    """Within which a figure is called the paper's, in words too."""

    low: float
    high: float
    words: str

    def verdict(self, interval: Interval) -> Verdict:
        """By the whole interval."""
        if not interval.known or math.isnan(interval.high):
            return UNDECIDED
        if self.low <= interval.low and interval.high <= self.high:
            return HOLDS
        return DIFFERS if interval.high < self.low or interval.low > self.high else UNDECIDED

    def place(self, intervals: Sequence[Interval]) -> str:
        """Where intervals lie that are not all within, in words."""
        verdict = worst([self.verdict(interval) for interval in intervals])
        if verdict == HOLDS:
            return ""
        if verdict == UNDECIDED:
            return "the interval crosses the margin"
        return "below the margin" if any(interval.high < self.low for interval in intervals) else "above the margin"


SLIGHTLY_BELOW = (2, 3)
"""The draft lengths below 4 that are "slightly slower": 1 is slower by 26 % in the calibrated closed form too."""
MARGINS = {
    "optimum": Margin(1, 1.10, "draft length 4 takes at most 10 % more time per token than the best one"),
    "speedup": Margin(1.8, 2.2, "between 1.8 and 2.2 times"),
    "below": Margin(
        0.98,
        1.15,
        "draft lengths 2 and 3 take between 2 % less and 15 % more time per token than 4 "
        "(the calibrated closed form gives 8 % and 2 % more)",
    ),
    "above": Margin(
        1.10, math.inf, "the longest draft takes at least 10 % more time per token than 4 (by the form, 8 takes 11 %)"
    ),
    "acceptance": Margin(
        0, 0.90, "of the longest drafts at most 0.9 times the share is accepted as at 4 (by the form, 0.3 times at 22)"
    ),
    "break-even": Margin(20, 25, "between draft lengths 20 and 25 (by the form, 22.3)"),
}
"""What is within a claim, by its key."""


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Of several that must all hold."""
    return DIFFERS if DIFFERS in verdicts else UNDECIDED if UNDECIDED in verdicts else HOLDS


def ends(interval: Interval, write: Callable[[float], str]) -> str:
    """The ends in brackets; nothing where there is no interval."""
    return f"[{write(interval.low)}, {write(interval.high)}]" if interval.known else ""


def change(ratio: float) -> str:
    """A ratio as a change: `+8 %`."""
    return f"{100 * (ratio - 1):+.0f} %"


def listed(values: Sequence[object]) -> str:
    """`1, 2 and 3`."""
    return " and ".join(filter(None, (", ".join(map(str, values[:-1])), str(values[-1]))))
