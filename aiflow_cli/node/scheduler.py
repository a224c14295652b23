"""Which of the work that waits is done next. All of it is handed to one place, so that another order has its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aiflow_cli.node.client import Client, Pending


class Job(NamedTuple):
    """A piece of work that waits, and the device for which it is."""

    client: Client
    pending: Pending


def next_in_turn(waiting: Sequence[Job]) -> Job:
    """What has waited longest: devices take turns, one piece each, since the next piece begins to wait with the answer."""
    return min(waiting, key=lambda job: job.pending.since_s)
