"""The process that `tests/starter.py` starts commands from: it imports what they import, and forks.

It keeps to one thread, and ends with the process whose stem it is.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import logging
import os
import pkgutil
import resource
import signal
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Never

from tests import starter

HEAVY = (
    "pandas",
    "matplotlib.pyplot",
    "scipy.stats",
    "torch.nn.functional",
    "transformers.models.internvl.modeling_internvl",
)
STARTS_OTHERS = ("run", "sweep", "bench")
"""Commands that start others: they have a stem of their own."""
SIGNALS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


def load() -> None:
    """Import all that commands import, also in the middle of their work."""
    import aiflow_cli

    logging.disable(logging.WARNING)
    ours = (module.name for module in pkgutil.walk_packages(aiflow_cli.__path__, "aiflow_cli."))
    for name in (*HEAVY, *ours):
        importlib.import_module(name)
    logging.disable(logging.NOTSET)
    gc.freeze()


def grow(requests: socket.socket) -> tuple[dict[str, Any], list[int], socket.socket]:
    """Fork for every request. Returns in the new processes only: the request, its streams, the way to the caller."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # those that the caller's whole group gets are not meant for its stem
    while True:
        message, streams, *_ = socket.recv_fds(requests, 1 << 20, 3)
        if not message:
            os._exit(0)
        if between := os.fork():
            os.waitpid(between, 0)
        elif os.fork():
            os._exit(0)  # an orphan goes to the nearest ancestor that takes orphans in: to the caller
        else:
            return json.loads(message), streams, requests
        for stream in streams:
            os.close(stream)


def settle(request: dict[str, Any], streams: list[int], requests: socket.socket) -> None:
    """Make this new process what was asked for, and tell the caller its process id."""
    while os.getppid() != request["parent"]:
        time.sleep(0.001)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for stream in streams:
        os.close(stream)
    os.sched_setaffinity(0, request["cores"])
    resource.setrlimit(resource.RLIMIT_FSIZE, request["file_size"])
    if request["new_session"]:
        os.setsid()
    try:
        os.chdir(request["folder"])
    except OSError as error:
        requests.send(json.dumps({"error": [error.errno, error.strerror, request["folder"]]}).encode())
        os._exit(1)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["aiflow", *request["command"]]
    show(request["arguments"])
    requests.send(json.dumps({"pid": os.getpid()}).encode())
    requests.close()


def show(arguments: list[str]) -> None:
    """Write the command line where the kernel shows it to others: over the one with which the stem was started."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])
    line = b"\0".join(map(os.fsencode, arguments))[: end - begin - 1]
    ctypes.memset(begin, 0, end - begin)
    ctypes.memmove(begin, line, len(line))


def live(requests: socket.socket) -> None:
    """Be a stem; returns in a process that is to run its command, with a stem of its own if that starts others."""
    while True:
        request, streams, caller = grow(requests)
        settle(request, streams, caller)
        if not request["command"] or request["command"][0] not in STARTS_OTHERS:
            break
        ours, requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if stem := os.fork():
            requests.close()
            starter.install(starter.Stem(ours, partial(os.waitpid, stem, 0)))
            break
        ours.close()
        with open(os.devnull, "r+b", buffering=0) as nothing:  # noqa: PTH123
            for number in range(3):
                os.dup2(nothing.fileno(), number)
    for number, handler in SIGNALS.items():
        signal.signal(number, handler)


def open_streams() -> None:
    """Streams as a new interpreter makes them: some of what they do depends on what they lead to."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        new = open(number, "w" if number else "r", encoding=old.encoding, errors=old.errors, closefd=False)  # noqa: SIM115
        new.reconfigure(line_buffering=number == 2 or new.isatty())
        setattr(sys, name, new)


def end(code: object) -> Never:
    """End as the interpreter does, but for half a second in which it frees all that was imported, object by object."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if isinstance(code, str):
        sys.stderr.write(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if isinstance(code, str) else int(code or 0))  # type: ignore[call-overload]


def main() -> Never:
    """The stem's life, and then that of a command, to its end."""
    del os.environ["OPENBLAS_NUM_THREADS"]
    load()
    live(socket.socket(fileno=int(sys.argv[1])))
    del sys.path[0]  # where the tests are
    sys.modules["__main__"].__package__ = None  # or messages would name this module as the program
    open_streams()
    from aiflow_cli.cli.app import main as command

    try:
        command()
    except SystemExit as ending:
        end(ending.code)
    except Exception:
        sys.excepthook(*sys.exc_info())
        end(1)
    end(0)


if __name__ == "__main__":
    main()
