"""Which of the work that waits is done next. All of it is handed to one place, so that another order has its place."""

from __future__ import annotations

from collections.abc import Sequence

from aiflow_cli.node.client import Job


def next_in_turn(waiting: Sequence[Job]) -> Job:
    """What has waited longest. The next piece begins to wait with the answer, so devices take turns, one piece each."""
    return min(waiting, key=lambda job: job.since_s)
