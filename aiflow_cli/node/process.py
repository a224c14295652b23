"""Child processes that never outlive their parent.

A child is another command of this program: of the very package that its parent runs, and nothing is imported from the
current folder, where anything may lie. It prints one JSON line on standard output when it is ready. It lives in a
process group of its own, so that Ctrl-C reaches the parent alone, which then ends its children. Should the parent die
without a word (SIGKILL), the kernel ends the child (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import aiflow_cli
from aiflow_cli.errors import AiflowError, LinkError
from aiflow_cli.link.address import Address, parse_address

READY_TIMEOUT_S = 600.0
"""A large checkpoint on a slow disk takes minutes to load."""
END_TIMEOUT_S = 2.0
MAX_READY_BYTES = 4096
WORDS_LINES = 3
"""So many of the last lines that a child wrote on standard error are shown when it has failed."""
LAST_WORDS_S = 0.5
DROPPED = "dropped a device: "
"""What a server writes before the reason that it has given the device, too."""
_FRAME = " \t\r│╭╮╰╯─"
"""Wrong use of a command is told in a frame."""
_PR_SET_PDEATHSIG = 1
_ROOT = Path(aiflow_cli.__file__).parents[1]
"""The folder that holds the package as it runs here."""
_START = (
    "import sys; root = sys.argv[1]; sys.argv[:2] = ['aiflow']; "
    "sys.path.insert(0, root); import aiflow_cli; del sys.path[0]; "
    "from aiflow_cli.cli.app import main; main()"
)
"""Only the package itself is looked for in the folder that holds its parent's, all else where Python looks anyway."""


def environment() -> dict[str, str]:
    """This process's environment, for a Python that imports nothing from the current folder."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [entry for entry in entries if entry and not _is_current_folder(entry)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(kept), "PYTHONSAFEPATH": "1"}


def _is_current_folder(path: str) -> bool:
    try:
        return Path(path).samefile(os.curdir)
    except OSError:
        return False  # there is no such folder


def die_with_parent(parent: int | None) -> None:
    """Have the kernel kill this process when its parent dies; exits at once if `parent`, a process id, is gone."""
    if parent is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel was told
        os._exit(1)


def _ending(code: int) -> str:
    known = {number.value: number.name for number in signal.Signals}
    return f"ended with exit code {code}" if code >= 0 else f"was ended by {known.get(-code, f'signal {-code}')}"


class Child(contextlib.AbstractContextManager["Child"]):
    """`aiflow ARGUMENTS` as a child process. A context manager that ends it."""

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        """Start it; call `ready` before it is used. `name` is what messages call it. Call from the main thread only:
        the kernel takes the death of the thread that started a child for the parent's.
        """
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(_ROOT), *arguments, "--parent", str(os.getpid())],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.address: Address
        """Where it listens, once it is ready."""

    def ready(self, timeout_s: float = READY_TIMEOUT_S) -> Address:
        """Wait until it is ready; where it listens. If it ends before, raises its own error, an AiflowError."""
        stdout, readable = self._process.stdout, select.poll()
        assert stdout is not None
        readable.register(stdout, select.POLLIN)
        # The line is printed at once, and shorter than what a pipe takes whole.
        said = os.read(stdout.fileno(), MAX_READY_BYTES) if readable.poll(timeout_s * 1e3) else b""
        if not said:
            raise self._failure(timeout_s)
        try:
            self.address = parse_address(json.loads(said.partition(b"\n")[0])["listening"])
        except (ValueError, TypeError, KeyError, AttributeError, AiflowError):
            instead = f"it printed {said[:80]!r} where the address belongs on which it listens"
            raise AiflowError(f"the {self.name} did not start: {instead}") from None
        return self.address

    def _failure(self, timeout_s: float) -> AiflowError:
        try:
            code = self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return LinkError(f"the {self.name} was not ready within {timeout_s:g} s: start it by itself to see why")
        words = [line.removeprefix("error: ") for line in self._said()[-1:]] or [f"it {_ending(code)}"]
        error = AiflowError(f"the {self.name} did not start: {words[0]}")
        if code in (1, 2, 3):
            error.exit_code = code
        return error

    def last_words(self, known: str = "") -> str:
        """How it has ended, if it has, and the last that it wrote on standard error, but for what is `known`."""
        with contextlib.suppress(subprocess.TimeoutExpired):  # its socket may be gone a moment before itself
            self._process.wait(LAST_WORDS_S)
        code = self._process.returncode
        said = " / ".join([line for line in self._said() if line.removeprefix(DROPPED) not in known][-WORDS_LINES:])
        parts = ["" if code is None else _ending(code), f"said last: {said}" if said else ""]
        return f"the {self.name} {' and '.join(filter(None, parts))}" if any(parts) else ""

    def _said(self) -> list[str]:
        self._errors.seek(0)
        lines = (line.strip(_FRAME) for line in self._errors.read().decode(errors="replace").splitlines())
        return [line for line in lines if line]

    def __exit__(self, *_: object) -> None:
        """End it and all it started; waits until it is gone."""
        with self._errors, self._process:
            for number in (signal.SIGTERM, signal.SIGKILL):
                if self._process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(self.pid, number)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(END_TIMEOUT_S)
