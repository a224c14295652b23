"""Child processes that never outlive their parent.

A child is another command of this program. It prints one JSON line on standard output when it is ready. It lives in a
process group of its own, so that Ctrl-C reaches the parent alone, which then ends its children. Should the parent die
without a word (SIGKILL), the kernel ends the child (PR_SET_PDEATHSIG); where there is no such call, the child looks for
its parent now and then (`parent_is_gone`).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from aiflow_cli.errors import AiflowError, LinkError

READY_TIMEOUT_S = 600.0
"""A large checkpoint on a slow disk takes minutes to load."""
END_TIMEOUT_S = 2.0
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None) -> None:
    """Have the kernel kill this process when its parent dies; exits at once if `parent` (its process id) is gone already."""
    if parent is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent_is_gone(parent):
        os._exit(1)


def parent_is_gone(parent: int | None) -> bool:
    """Whether this process has been handed to another parent than the one that started it."""
    return parent is not None and os.getppid() != parent


class Child:
    """`aiflow ARGUMENTS` as a child process. A context manager that ends it."""

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        """Start it; call `ready` before it is used. `name` is what messages call it. Call from the main thread only:
        the kernel takes the death of the thread that started a child for the parent's.
        """
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "aiflow_cli", *arguments, "--parent", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def ready(self, timeout_s: float = READY_TIMEOUT_S) -> dict[str, Any]:
        """Wait for its ready line; raises AiflowError with its own error line and exit code if it ends before."""
        line = self._read_line(time.monotonic() + timeout_s)
        if not line.endswith(b"\n"):
            raise self._failure(timeout_s)
        document: dict[str, Any] = json.loads(line)
        return document

    def _read_line(self, deadline_s: float) -> bytes:
        assert self._process.stdout is not None
        line, fd = b"", self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while not line.endswith(b"\n") and selector.select(max(0.0, deadline_s - time.monotonic())):
                if not (data := os.read(fd, 4096)):
                    break
                line += data
        return line

    def _failure(self, timeout_s: float) -> AiflowError:
        try:
            code = self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return LinkError(f"the {self.name} was not ready within {timeout_s:g} s: start it by itself to see why")
        error = AiflowError(f"the {self.name} did not start: {self.last_words() or f'it ended with exit code {code}'}")
        if code in (1, 2, 3):
            error.exit_code = code
        return error

    def last_words(self) -> str:
        """The last line that it wrote on standard error."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else ""

    def end(self) -> None:
        """End it and all it started; waits until it is gone."""
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def __enter__(self) -> Self:
        """The child itself."""
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        """End it."""
        self.end()
