"""Progress on standard error: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aiflow_cli.cli.output import note as print_note

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from aiflow_cli.training.recipe import Progress as StageProgress
    from aiflow_cli.trials.run import Step

_LINE_EVERY_S = 10.0


def _bars() -> Bars:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from aiflow_cli.cli.output import console

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, TextColumn("{task.fields[note]}", markup=False), console=console(stderr=True))


def _on_terminal(bars: Bars) -> bool:
    """Whether bars can be drawn: FORCE_COLOR makes no terminal of a pipe, and a dumb one cannot move its cursor."""
    return sys.stderr.isatty() and not bars.console.is_dumb_terminal


def _lines() -> Callable[[str, int, int, str], None]:
    last: dict[str, float] = {}

    def show(what: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if 0 < total <= done or now - last.get(what, now - _LINE_EVERY_S) >= _LINE_EVERY_S:
            last[what] = now
            print_note(f"{what}: {done}{f'/{total}' if total else ''} {note}".rstrip())

    return show


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far one task of `total` steps is: call what this gives with the number of steps done."""
    bars = _bars()
    if _on_terminal(bars):
        with bars:
            task = bars.add_task(what, total=total, note="")
            yield lambda done: bars.update(task, completed=done)
    else:
        line = _lines()
        yield lambda done: line(what, done, total, "")


@contextmanager
def counted_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far one task is whose number of steps comes with the reports: done, total."""
    bars, line = _bars(), _lines()
    if _on_terminal(bars):
        with bars:
            task = bars.add_task(what, total=None, note="")
            yield lambda done, total: bars.update(task, completed=done, total=total)
    else:
        yield lambda done, total: line(what, done, total, "")


@contextmanager
def display() -> Iterator[Callable[[str, int, int], None]]:
    """Show tasks as they are told of: what, how much is done, of how much (0 where that is not known)."""
    bars, line, tasks = _bars(), _lines(), {}

    def show(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=None, note="")
        bars.update(tasks[what], completed=done, total=total or None)

    if _on_terminal(bars):
        with bars:
            yield show
    else:
        yield lambda what, done, total: line(what, done, total, "")


@contextmanager
def stages_progress() -> Iterator[Callable[[StageProgress], None]]:
    """Show the stages of a recipe as they report."""
    bars, tasks = _bars(), {}
    if _on_terminal(bars):
        with bars:

            def show(report: StageProgress) -> None:
                if report.stage not in tasks:
                    tasks[report.stage] = bars.add_task(report.stage, total=report.total, note="")
                bars.update(tasks[report.stage], completed=report.done, total=report.total, note=report.note)

            yield show
    else:
        line = _lines()
        yield lambda report: line(*report)


@contextmanager
def trials_progress() -> Iterator[Callable[[Step], None]]:
    """Show the trials of a run, each with its caption."""
    bars, line = _bars(), _lines()
    if _on_terminal(bars):
        with bars:
            task = bars.add_task("starting", total=None, note="")

            def show(step: Step) -> None:
                bars.update(task, description="trials", completed=step.done, total=step.total, note=_caption(step, 60))

            yield show
    else:
        yield lambda step: line("trials", step.done, step.total, _caption(step, 120))


@contextmanager
def sweep_progress() -> Iterator[Callable[[Step], None]]:
    """Show the trials of a sweep: the last setting, and how long the rest will take at the pace so far."""
    bars, line = _bars(), _lines()
    if _on_terminal(bars):
        with bars:
            task = bars.add_task("starting", total=None, note="")

            def show(step: Step) -> None:
                note = _setting(step)
                bars.update(task, description="trials", completed=step.done, total=step.total, note=note)

            yield show
    else:
        began: list[tuple[float, int]] = []

        def show_line(step: Step) -> None:
            if step.record is not None:  # the time before the first trial went into starting
                began[1:] = [(time.monotonic(), step.done)]
            line("trials", step.done, step.total, f"{_left(began, step)}{_setting(step)}")

        yield show_line


def _left(began: list[tuple[float, int]], step: Step) -> str:
    """`3 min left, `, by the pace between the first report and this one; empty while there is none."""
    if len(began) < 2 or step.done >= step.total:
        return ""
    (since_s, before), (now_s, done) = began
    left_s = (now_s - since_s) / (done - before) * (step.total - done)
    return f"{left_s / 60:.0f} min left, " if left_s >= 90 else f"{left_s:.0f} s left, "


def _setting(step: Step) -> str:
    if step.record is None:
        return ""
    r = step.record
    gamma = "" if r["gamma"] is None else f" gamma {r['gamma']}"
    return f"{r['pair']} {r['method']}{gamma}{' (warm-up)' if r['warmup'] else ''}"


def _caption(step: Step, width: int) -> str:
    if step.record is None:
        return ""
    text = f"{step.record['method']}: {step.record['caption']}"
    return text if len(text) <= width else text[: width - 1] + "…"
