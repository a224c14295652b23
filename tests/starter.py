"""Real processes of the program without the seconds in which Python imports torch.

`install` replaces `subprocess.Popen` by a class that starts `aiflow` commands, and only those, by way of a *stem*
(`tests/stem.py`): a process that has imported everything and has run nothing. It forks what is asked for, with the
arguments, streams, environment, folder and session that the caller gives. What comes is a process like any other: a
child of the caller, who waits for it and kills it, with a process id, an exit code and a command line of its own. It
has a stem of its own too, from which come the processes that it starts: server and link are real and quick as well.

A command is started in the usual way all the same where its start could make a difference: in tests marked `start_up`,
with variables that libraries read when they are imported, and with anything beyond the options that a stem knows.
"""

from __future__ import annotations

import atexit
import ctypes
import inspect
import json
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SPACE = 8192
"""Characters that are reserved for the command line of a process from a stem."""
READ_LATE = (
    "AIFLOW_",
    "COLUMNS",
    "FORCE_COLOR",
    "MUTANT_",
    "NO_COLOR",
    "PYTEST_",
    "PYTHONSAFEPATH",
    "TERM",
    "TTY_COMPATIBLE",
)
"""Beginnings of the names of variables that are read when a command runs. All others must be those of the stem."""
ORDINARY = {"preexec_fn": None, "pass_fds": (), "shell": False, "process_group": -1, "uid": None, "umask": -1}
"""Options that a stem does not know, and their values if they are not given."""
_PR_SET_CHILD_SUBREAPER = 36

_usual = subprocess.Popen


def early(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that may have been read when modules were imported; empty ones are as good as none."""
    return {name: value for name, value in environment.items() if value and not name.startswith(READ_LATE)}


def command_of(arguments: Any) -> list[str] | None:
    """What follows `aiflow` in a command line that starts the program; None if it starts something else."""
    if isinstance(arguments, str | bytes | os.PathLike):
        return None
    match [os.fspath(argument) for argument in arguments]:
        case [sys.executable, "-m", "aiflow_cli", *rest]:
            return rest
        case [sys.executable, "-c", code, _root, *rest] if "from aiflow_cli.cli.app import main; main()" in code:
            return rest
    return None


class Stem:
    """The caller's end of a stem."""

    def __init__(self, requests: socket.socket, wait: Callable[[], object]) -> None:
        """The stem was started with the environment of now; `wait` waits for its end.

        Makes this process the parent of what the stem forks.
        """
        self._requests, self._wait, self._early = requests, wait, early(os.environ)
        self._lock = threading.Lock()
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        atexit.register(self._end)

    def _end(self) -> None:
        self._requests.close()
        self._wait()

    def grows(self, options: Mapping[str, Any]) -> bool:
        """Whether a process from it is the same as one that is started in the usual way."""
        given = os.environ if options["env"] is None else options["env"]
        return early(given) == self._early and all(options[name] == usual for name, usual in ORDINARY.items())

    def start(self, command: Sequence[str], options: Mapping[str, Any]) -> int:
        """The process id of a new child. Raises OSError if it cannot change to its folder."""
        streams = [options["p2cread"], options["c2pwrite"], options["errwrite"]]
        request = {
            "command": command,
            "arguments": [os.fspath(argument) for argument in options["args"]],
            "environment": dict(os.environ if options["env"] is None else options["env"]),
            "folder": os.fspath(options["cwd"] or Path.cwd()),
            "cores": sorted(os.sched_getaffinity(0)),
            "file_size": resource.getrlimit(resource.RLIMIT_FSIZE),
            "new_session": options["start_new_session"],
            "parent": os.getpid(),
        }
        with self._lock:
            ours = [number if given == -1 else given for number, given in enumerate(streams)]
            socket.send_fds(self._requests, [json.dumps(request).encode()], ours)
            answer = json.loads(self._requests.recv(65_536))
        if "error" in answer:
            raise OSError(*answer["error"])
        return int(answer["pid"])


class _Popen(_usual):  # type: ignore[type-arg]
    """`subprocess.Popen`, with `aiflow` commands by way of the stem."""

    stem: Stem | None = None
    enabled = True

    def _execute_child(self, *given: Any) -> None:
        usual = super()._execute_child  # type: ignore[misc]
        options = inspect.signature(usual).bind(*given).arguments
        command = command_of(options["args"])
        if command is None or not _Popen.enabled or not (stem := the_stem()).grows(options):
            usual(*given)
            return
        self.pid = stem.start(command, options)
        self._child_created = True
        self._close_pipe_fds(  # type: ignore[attr-defined]
            *(options[n] for n in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"))
        )


def the_stem() -> Stem:
    """This process's stem; started when it is first asked for."""
    if _Popen.stem is None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = _usual(
                [sys.executable, "-m", "tests.stem", str(theirs.fileno()), " " * SPACE],
                cwd=ROOT,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        _Popen.stem = Stem(ours, process.wait)
    return _Popen.stem


def install(stem: Stem | None = None) -> None:
    """From now on `subprocess` starts commands of the program by way of a stem (of this one, if there is one
    already).
    """
    if sys.platform == "linux":
        _Popen.stem = stem
        subprocess.Popen = _Popen  # type: ignore[misc]


def enable(quick: bool) -> None:
    """Whether commands come from the stem, or start in the usual way."""
    _Popen.enabled = quick
