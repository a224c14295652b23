"""Which core does what: the device and the server each on their own, where there are enough; one torch thread each by default.

The relay is left to the scheduler among the cores that remain, or all where there are only two: it is light (some 5 % of
a core), and whenever it has work at least one of the other two is waiting (the server during an upload, the device while
tokens stream down, both while a draft or a verdict travels).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """Cores of each process; empty: wherever the scheduler likes."""

    device: frozenset[int] = frozenset()
    server: frozenset[int] = frozenset()
    link: frozenset[int] = frozenset()


def plan(cores: Iterable[int], threads: int, accelerator: bool = False) -> Placement:
    """Where to put processes of `threads` compute threads on these cores. Nothing is pinned if they are too few."""
    usable = sorted(cores)
    if accelerator or len(usable) < 2 * threads:
        return Placement()
    device, server, rest = usable[:threads], usable[threads : 2 * threads], usable[2 * threads :]
    return Placement(frozenset(device), frozenset(server), frozenset(rest or usable))


def available() -> frozenset[int]:
    """The cores that this process may run on; none known where the system does not tell."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def pin(cores: frozenset[int], pid: int = 0) -> None:
    """Bind a process (0: the calling thread) to `cores`; threads that it starts later inherit them."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, cores)
