"""Progress on standard error: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from aiflow_cli.cli.output import console
from aiflow_cli.cli.output import note as print_note

_LINE_EVERY_S = 10.0
_LINE_NOTE_WIDTH, _BAR_NOTE_WIDTH = 120, 60
Show = Callable[..., None]
"""Tells which task is how far: its name, steps done, of how many (0 where that is not known), and perhaps a note."""


@contextmanager
def display(first: str = "", clock: Callable[[], float] = time.monotonic) -> Iterator[Show]:
    """The one display. Each task that is told of has a bar of its own, or lines; `first` has its bar at once."""
    from rich import progress

    bars = progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}", markup=False),
        console=console(stderr=True),
        get_time=clock,
        speed_estimate_period=math.inf,
    )
    on_terminal = sys.stderr.isatty() and not bars.console.is_dumb_terminal  # FORCE_COLOR makes no terminal of a pipe
    tasks = {first: bars.add_task(first, total=None, note="")} if first else {}
    told_s: dict[str, float] = {}

    def show(what: str, done: int, total: int, note: str = "") -> None:
        if what not in tasks:  # what is done already is no part of the pace
            tasks[what] = bars.add_task(what, total=total or None, completed=done, note="")
        bars.update(tasks[what], completed=done, total=total or None, note=_cut(note, _BAR_NOTE_WIDTH))
        now_s = clock()
        if not on_terminal and (0 < total <= done or now_s - told_s.get(what, -math.inf) >= _LINE_EVERY_S):
            told_s[what] = now_s
            left = _time_left(bars.tasks[tasks[what]].time_remaining)
            line = f"{what}: {done}{f'/{total}' if total else ''} {left}{_cut(note, _LINE_NOTE_WIDTH)}"
            print_note(line.rstrip(", "))

    with bars if on_terminal else nullcontext():
        yield show


@contextmanager
def progress(what: str, total: int = 0) -> Iterator[Callable[..., None]]:
    """Show how far one task is: call what this gives with the steps done, and their number if `total` is not known."""
    with display(what) as show:
        yield lambda done, of=total: show(what, done, of)


def _time_left(seconds: float | None) -> str:
    """`3 min left, `, by the pace since the first step was done: the time before that went into starting as well."""
    if not seconds:
        return ""
    return f"{seconds / 60:.0f} min left, " if seconds >= 90 else f"{seconds:.0f} s left, "


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
