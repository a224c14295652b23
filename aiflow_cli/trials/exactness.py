"""What `--exact` did in a run: how often a position was decided again, and what it cost (`decoding/exact.py`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from aiflow_cli.trials.store import Record


@dataclass(frozen=True)
class Exactness:
    """Of all measured trials of one method and draft length."""

    method: str
    gamma: int | None
    rounds: int
    decided_again: int
    """Rounds in which a position was."""
    steps: int
    """Single steps that it took."""
    redecide_s: float
    verify_s: float
    """Time of all verification, those steps included."""

    def as_json(self) -> dict[str, Any]:
        """For the document of `--json`."""
        return asdict(self)

    def line(self) -> str:
        """For people."""
        label = self.method if self.gamma is None else f"{self.method} gamma {self.gamma}"
        share = self.redecide_s / self.verify_s if self.verify_s else 0.0
        return (
            f"exact: {label} decided again in {self.decided_again} of {self.rounds} rounds, "
            f"by {self.steps} single steps ({share:.0%} of the verification's time)"
        )


def exactness(records: Iterable[Record]) -> list[Exactness]:
    """By method and draft length, of all that have rounds; warm-ups are left out."""
    rounds: dict[tuple[str, int | None], list[Any]] = defaultdict(list)
    for record in records:
        if record["rounds"] and not record["warmup"]:
            rounds[record["method"], record["gamma"]] += record["rounds"]
    return [
        Exactness(
            method,
            gamma,
            len(found),
            sum(one["redecide_steps"] > 0 for one in found),
            sum(one["redecide_steps"] for one in found),
            sum(one["redecide_s"] for one in found),
            sum(one["verify_s"] for one in found),
        )
        for (method, gamma), found in rounds.items()
    ]
