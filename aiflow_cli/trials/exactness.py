"""What `--exact` did in a run: how often a position was decided again, and what it cost (`decoding/exact.py`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from aiflow_cli.world.record import Round, Trial


@dataclass(frozen=True)
class Exactness:
    """Of all measured trials of a method and draft length. `decided_again`: rounds in which a position was, by so many
    single `steps`; `verify_s` is the time of all verification, those steps included.
    """

    method: str
    gamma: int | None
    rounds: int
    decided_again: int
    steps: int
    redecide_s: float
    verify_s: float

    def as_json(self) -> dict[str, Any]:
        """For the document of `--json`."""
        return asdict(self)

    def line(self) -> str:
        """For people."""
        share = self.redecide_s / self.verify_s if self.verify_s else 0.0
        rounds = f"decided again in {self.decided_again} of {self.rounds} rounds, by {self.steps} single steps"
        return f"exact: {self.method} gamma {self.gamma} {rounds} ({share:.0%} of the verification's time)"


def exactness(trials: Iterable[Trial]) -> list[Exactness]:
    """By method and draft length, of all that have rounds; warm-ups are left out."""
    rounds: dict[tuple[str, int | None], list[Round]] = defaultdict(list)
    for trial in trials:
        if trial.rounds and not trial.warmup:
            rounds[trial.setting.method.value, trial.setting.gamma] += trial.rounds
    return [
        Exactness(
            method,
            gamma,
            rounds=len(found),
            decided_again=sum(one.redecide_steps > 0 for one in found),
            steps=sum(one.redecide_steps for one in found),
            redecide_s=sum(one.redecide_s for one in found),
            verify_s=sum(one.verify_s for one in found),
        )
        for (method, gamma), found in rounds.items()
    ]
