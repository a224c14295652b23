"""Progress on standard error: lines where nothing can be redrawn, bars on a terminal, the same words in both."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.cli.experiments import words_of
from aiflow_cli.cli.progress import display, progress
from aiflow_cli.training.recipe import Progress
from aiflow_cli.trials.run import Step
from tests.analysis.records import FakePair, FakeSweep, records

TRIALS = list(records(FakeSweep(pairs=(FakePair("small"),), images=1, gammas=(4,), co_located=())))


def test_a_task_is_told_when_it_begins_and_when_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("evaluating", 50) as advance:
        for done in range(1, 51):
            advance(done)
    assert capsys.readouterr().err.splitlines() == ["evaluating: 1/50", "evaluating: 50/50"]


def test_a_number_of_steps_that_comes_with_the_reports(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("figures") as show:
        show(1, 2)
        show(2, 2)
    assert capsys.readouterr().err.splitlines() == ["figures: 1/2", "figures: 2/2"]


def test_a_number_of_steps_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    with display() as show:
        for done in range(5):
            show("export, MB", done, 0, "")
    assert capsys.readouterr().err == "export, MB: 0\n"


def test_stages_and_trials(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [Step(0, 2, None), *(Step(2, 2, trial) for trial in TRIALS if trial.setting.gamma)]
    with display() as show:
        show(*Progress("target", 1, 2, "loss 0.5"))
        show(*Progress("draft", 2, 2, ""))
        for step in steps:
            show("trials", step.done, step.total, words_of(step))
    assert capsys.readouterr().err.splitlines() == [
        "target: 1/2 loss 0.5",
        "draft: 2/2",
        "trials: 0/2",
        f"trials: 2/2 small speculative gamma 4: {TRIALS[0].caption}",
    ]


@given(st.floats(20.0, 1e4), st.integers(0, 50), st.integers(1, 50), st.integers(1, 1000))
def test_time_left_by_the_pace_since_the_first_step(step_s: float, before: int, steps: int, left: int) -> None:
    """What was done before, and the long time to the first step, do not count."""
    at_s, total, errors = 0.0, before + 1 + steps + left, io.StringIO()
    with contextlib.redirect_stderr(errors), display(clock=lambda: at_s) as show:
        show("trials", before, total)
        for done in range(1, steps + 2):
            at_s = 500.0 + (done - 1) * step_s
            show("trials", before + done, total)
        show("trials", total, total)
    began, first, *_, last, end = errors.getvalue().splitlines()
    assert (began, first) == (f"trials: {before}/{total}", f"trials: {before + 1}/{total}")
    number, unit = re.fullmatch(r"trials: \d+/\d+ (\d+) (min|s) left", last).groups()  # type: ignore[union-attr]
    assert float(number) * {"min": 60, "s": 1}[unit] == pytest.approx(left * step_s, rel=0.35, abs=1.0)
    assert end == f"trials: {total}/{total}"


class Terminal:
    """A terminal that keeps what is written to it: somebody has to read, or the writer waits."""

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        self.stream = os.fdopen(theirs, "w")
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # how a terminal ends
            while piece := os.read(self._ours, 4096):
                self._seen += piece

    def text(self) -> str:
        self.stream.close()
        self._reader.join(10)
        return self._seen.decode()


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error becomes a terminal. (Not in a fixture: pytest's capture puts its own stream there afterwards.)"""
    made = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr(sys, "stderr", made.stream)
    return made


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    with display() as show:
        show("trials", 3, 3, "[bold] " + "x" * 99)
    told = terminal.text()
    assert "trials" in told
    assert "3/3" in told
    assert "[bold] xxx" in told  # what a model says is no markup
    assert "x" * 60 not in told


def test_a_bar_for_each_task(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    with display("target") as show:
        show("target", 1, 2, "loss 0.5")
        show("draft", 2, 7)
    told = terminal.text()
    assert "target" in told
    assert "loss 0.5" in told
    assert "2/7" in told
