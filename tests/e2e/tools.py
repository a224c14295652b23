"""The program as its users start it: real processes, real sockets, a tiny pair."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

AIFLOW = (sys.executable, "-m", "aiflow_cli")
PATIENCE_S = 60.0


def aiflow(
    *arguments: object, cwd: Path | None = None, timeout: float = 200, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command of the program to its end."""
    command = [*AIFLOW, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, text=True, capture_output=True, timeout=timeout, check=False, **options)


def one_line(finished: subprocess.CompletedProcess[str]) -> str:
    """The error line of a command that failed; fails if there is a traceback or nothing."""
    assert "Traceback" not in finished.stderr, finished.stderr
    lines = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, finished.stderr
    return lines[0]


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """What `condition` gives when it is true; fails if it never is."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


@contextlib.contextmanager
def files_limited_to(n_bytes: int) -> Iterator[None]:
    """No file may grow beyond that, neither here nor in a command that is started meanwhile: stands in for a full
    disk.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def descendants(pid: int) -> list[psutil.Process]:
    """All processes that one has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def assert_gone(processes: list[psutil.Process]) -> None:
    """Fail if one of them is still there after a while."""
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


class Background:
    """A command that runs while the test goes on."""

    def __init__(self, *arguments: object, cwd: Path | None = None) -> None:
        command = [*AIFLOW, *map(str, arguments)]
        self.process = subprocess.Popen(
            command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )

    def signal(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal, wait for the end; exit code and standard error."""
        os.kill(self.process.pid, number)
        return self.end()

    def end(self, patience_s: float = PATIENCE_S) -> tuple[int, str]:
        """Wait for the end; exit code and standard error."""
        _, errors = self.process.communicate(timeout=patience_s)
        return self.process.returncode, errors

    def listening(self) -> str:
        """The address in the ready line of a server or link."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read() if self.process.stderr else ""
        return str(json.loads(line)["listening"])


def method_of(trial: dict[str, Any]) -> str:
    """The method of a trial as it lies on the disk."""
    return str(trial["setting"]["method"])


def finished_trials(folder: Path) -> list[dict[str, Any]]:
    """The trials on the disk so far."""
    path = folder / "trials.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]  # the last may be half written
