"""The one place that turns an error into a line on standard error and an exit code.

0 done, 1 failed, 2 wrong use, 3 something missing that a command can supply, 4 outside a tolerance, 130 interrupted
(Ctrl-C), 143 terminated (SIGTERM). `--debug` or AIFLOW_DEBUG=1 adds the traceback. A file that the system refuses,
and a standard output that takes no more, are lines too. What else is no AiflowError is a bug and stays a traceback.
"""

from __future__ import annotations

import functools
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn, ParamSpec

import typer

from aiflow_cli import environment
from aiflow_cli.cli.output import note
from aiflow_cli.cli.streams import OutputError, silence, spell_out
from aiflow_cli.errors import AiflowError, UsageError
from aiflow_cli.paths import user_path

P = ParamSpec("P")

INTERRUPTED = 130
TERMINATED = 143


class Terminated(BaseException):
    """SIGTERM arrived: unwinds the stack as Ctrl-C does, so that children are ended and results closed."""


def handled(command: Callable[P, None], checked: bool = True) -> Callable[P, None]:
    """`command`, whose errors become one line and an exit code, and whose paths are read as users write them.

    `checked`: variables of the environment that cannot be what they are set to are such an error.
    """

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        if checked:
            environment.check()
        for name, value in kwargs.items():
            kwargs[name] = user_path(str(value)) if isinstance(value, Path) else value
        command(*args, **kwargs)

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        spell_out()
        if code := exit_code_of(functools.partial(call, *args, **kwargs)):
            raise typer.Exit(code)

    return wrapper


def exit_code_of(call: Callable[[], None]) -> int:
    """Run `call`; the exit code of the error it raised, which is reported on standard error, or 0."""
    try:
        call()
    except OutputError as error:
        silence(sys.stdout)
        if not error.reader_is_gone:  # as with `| head`, which is no failure to tell of
            _report(f"error: {error}")
        return error.exit_code
    except AiflowError as error:
        _report(f"error: {str(error) or type(error).__name__}")
        return error.exit_code
    except KeyboardInterrupt:
        _report("interrupted")
        return INTERRUPTED
    except Terminated:
        _report("terminated")
        return TERMINATED
    except OSError as error:
        if error.filename is None:
            raise
        _report(f"error: {error.filename}: {error.strerror}")
        return 1
    return 0


def unwind_on_sigterm() -> None:
    """From now on SIGTERM raises Terminated in the main thread, instead of ending the process at once."""

    def terminate(_signum: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)


def stopped_by_signals() -> Callable[[], bool]:
    """Whether Ctrl-C or SIGTERM has come, which from now on end nothing by themselves."""
    came: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: came.append(got))
    return lambda: bool(came)


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    with suppress(UsageError):  # that it is set to something else is an error of the command's
        return bool(environment.DEBUG.value())
    return False


def _report(line: str) -> None:
    if debugging():
        note(traceback.format_exc())
    note(" ".join(line.split()))
