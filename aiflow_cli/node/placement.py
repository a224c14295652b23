"""Which core does what: the device and the server each on their own, where there are enough.

The relay is left to the system among the cores that remain, or all where there are only two: it is light (some 5 % of a
core), and whenever it has work at least one of the other two is waiting (the server during an upload, the device while
tokens stream down, both while a draft or a verdict travels).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

_PASSES = 3
"""While the first pass is under way a thread that is not bound yet can start another; one that is bound hands its cores
on."""


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
    """The cores that this process may run on."""
    return frozenset(os.sched_getaffinity(0))


def pin(cores: frozenset[int], pid: int | None = None) -> None:
    """Bind a process (None: this one) to `cores` with all its threads: the system moves one thread at a time, and
    torch's pool is there before its process is bound. Threads that are started later inherit the cores of their own.
    """
    if not cores:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        for _ in range(_PASSES):
            for thread in psutil.Process(pid).threads():
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    os.sched_setaffinity(thread.id, cores)
