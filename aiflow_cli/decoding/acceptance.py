"""The acceptance rule and the stopping rule of greedy speculation; every method uses these, and no other code decides either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Judgement:
    """One verification: `accepted` drafts, then the target's own `token` (None after an accepted end), and whether the output is done."""

    accepted: int
    token: int | None
    done: bool

    def delivered(self, drafted: Sequence[int]) -> tuple[int, ...]:
        """The tokens that the round adds to the output."""
        return (*drafted[: self.accepted], *(() if self.token is None else (self.token,)))

    def judged(self, drafted: Sequence[int]) -> int:
        """How many of `drafted` were held against the target: the accepted ones, and the first rejected one if there is one."""
        return min(len(drafted), self.accepted + (self.token is not None))


def judge(drafted: Sequence[int], predictions: Sequence[int], stop_ids: frozenset[int], left: int) -> Judgement:
    """Accept the longest prefix of `drafted` that the target predicts, then take its correction or bonus token.

    `predictions` has one entry more than `drafted`: the target's most likely token at each position and after the last (Leviathan et al.,
    ICML 2023, with a greedy target). `left` is how many tokens the output may still have, at least len(drafted) + 1.
    """
    if len(predictions) != len(drafted) + 1 or len(drafted) >= left:
        raise ValueError(f"{len(predictions)} predictions for {len(drafted)} drafts with room for {left} tokens")
    for accepted, (draft, prediction) in enumerate(zip(drafted, predictions, strict=False)):
        if draft != prediction:
            return Judgement(accepted, prediction, prediction in stop_ids)
        if draft in stop_ids:
            return Judgement(accepted + 1, None, True)
    bonus = predictions[len(drafted)]
    return Judgement(len(drafted), bonus, bonus in stop_ids or len(drafted) + 1 == left)


def draft_length(gamma: int, left: int) -> int:
    """How many tokens are worth drafting when the output may have `left` more: the target adds one itself."""
    return min(gamma, left - 1)
