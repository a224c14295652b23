"""Progress on standard error: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from aiflow_cli.cli.output import note as print_note

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from aiflow_cli.training.recipe import Progress as StageProgress
    from aiflow_cli.trials.run import Step

_LINE_EVERY_S = 10.0
_NOTE_WIDTH, _BAR_NOTE_WIDTH = 120, 60


class Show(Protocol):
    """Tells which task is how far: its name, steps done, of how many (0 where that is not known), and a note."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Tell."""


@contextmanager
def display(first: str = "") -> Iterator[Show]:
    """The one display. Each task that is told of has a bar of its own, or lines; `first` has its bar at once."""
    bars = _bars()
    if sys.stderr.isatty() and not bars.console.is_dumb_terminal:  # FORCE_COLOR makes no terminal of a pipe
        with bars:
            yield _on_bars(bars, first)
    else:
        yield _in_lines()


def _bars() -> Bars:
    from rich import progress

    from aiflow_cli.cli.output import console

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}", markup=False),
        console=console(stderr=True),
    )


def _on_bars(bars: Bars, first: str) -> Show:
    tasks = {first: bars.add_task(first, total=None, note="")} if first else {}

    def show(what: str, done: int, total: int, note: str = "") -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=None, note="")
        bars.update(tasks[what], completed=done, total=total or None, note=_cut(note, _BAR_NOTE_WIDTH))

    return show


def _in_lines() -> Show:
    last: dict[str, float] = {}
    reports: dict[str, list[tuple[float, int]]] = {}

    def show(what: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        pace = reports.setdefault(what, [])
        if not pace or done > pace[-1][1]:
            pace[2:] = [(now, done)]
        if 0 < total <= done or now - last.get(what, now - _LINE_EVERY_S) >= _LINE_EVERY_S:
            last[what] = now
            line = f"{what}: {done}{f'/{total}' if total else ''} {_left(pace, total)}{_cut(note, _NOTE_WIDTH)}"
            print_note(line.rstrip(", "))

    return show


def _left(pace: list[tuple[float, int]], total: int) -> str:
    """`3 min left, `, by the pace since the first step was done: the time before that went into starting as well."""
    if len(pace) < 3 or pace[-1][1] >= total:
        return ""
    _, (since_s, before), (now_s, done) = pace
    left_s = (now_s - since_s) / (done - before) * (total - done)
    return f"{left_s / 60:.0f} min left, " if left_s >= 90 else f"{left_s:.0f} s left, "


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


@contextmanager
def progress(what: str, total: int = 0) -> Iterator[Callable[..., None]]:
    """Show how far one task is: call what this gives with the steps done, and their number if `total` is not known."""
    with display(what) as show:
        yield lambda done, of=total: show(what, done, of)


@contextmanager
def stages_progress() -> Iterator[Callable[[StageProgress], None]]:
    """Show the stages of a recipe as they report."""
    with display() as show:
        yield lambda report: show(*report)


@contextmanager
def trials_progress() -> Iterator[Callable[[Step], None]]:
    """Show how far trials are, with the last one's setting and caption."""
    with display("trials") as show:
        yield lambda step: show("trials", step.done, step.total, _trial(step))


def _trial(step: Step) -> str:
    if (trial := step.trial) is None:
        return ""
    return f"{trial.setting.pair} {trial.setting.words}{' (warm-up)' if trial.warmup else ''}: {trial.caption}"
