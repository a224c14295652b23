"""The one place that turns an error into a line on standard error and an exit code.

0 done, 1 failed, 2 wrong use, 3 something missing that a command can supply, 4 outside a tolerance, 130 interrupted
(Ctrl-C), 143 terminated (SIGTERM). `--debug` or AIFLOW_DEBUG=1 adds the traceback. What is no AiflowError is a bug and
stays a traceback.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, ParamSpec

import typer

from aiflow_cli.errors import AiflowError

P = ParamSpec("P")

INTERRUPTED = 130
TERMINATED = 143
DEBUG_VARIABLE = "AIFLOW_DEBUG"


class Terminated(BaseException):
    """SIGTERM arrived: unwinds the stack as Ctrl-C does, so that children are ended and results closed."""


def handled(command: Callable[P, None]) -> Callable[P, None]:
    """`command`, with its errors turned into one line and an exit code."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        code = exit_code_of(lambda: command(*args, **kwargs))
        if code:
            raise typer.Exit(code)

    return wrapper


def exit_code_of(call: Callable[[], None]) -> int:
    """Run `call`; the exit code of the error it raised, which is reported on standard error, or 0."""
    try:
        call()
    except AiflowError as error:
        _report(f"error: {_one_line(error)}")
        return error.exit_code
    except KeyboardInterrupt:
        _report("interrupted")
        return INTERRUPTED
    except Terminated:
        _report("terminated")
        return TERMINATED
    except BrokenPipeError:
        _silence_standard_output()
        return 1
    return 0


def unwind_on_sigterm() -> None:
    """From now on SIGTERM raises Terminated in the main thread, instead of ending the process at once."""

    def terminate(_signum: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def _report(line: str) -> None:
    if debugging():
        traceback.print_exc()
    print(line, file=sys.stderr, flush=True)


def _one_line(error: AiflowError) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _silence_standard_output() -> None:
    """The reader went away (`| head`): let the interpreter's last flush go nowhere."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
