"""The one place that turns an error into a line on standard error and an exit code; and the standard streams.

0 done, 1 failed, 2 wrong use, 3 something missing that a command can supply, 4 outside a tolerance, 130 interrupted
(Ctrl-C), 143 terminated (SIGTERM). `--debug` or AIFLOW_DEBUG=1 adds the traceback. A file that the system refuses,
and a standard output that takes no more, are lines too. What else is no AiflowError is a bug and stays a traceback.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import IO, NoReturn

from aiflow_cli import environment
from aiflow_cli.cli.output import note
from aiflow_cli.errors import AiflowError, UsageError
from aiflow_cli.text import SPELT_OUT


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: unwinds the stack as Ctrl-C does, so that children are ended and results closed."""


class OutputError(AiflowError):
    """Standard output takes no more: the disk behind it is full, it was closed, or its reader went away."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written: {error.strerror}")
        self.reader_is_gone = error.errno == errno.EPIPE


def exit_code_of(call: Callable[[], object]) -> int:
    """Run `call`; the exit code of the error it raised, which is reported on standard error, or 0."""
    try:
        call()
    except AiflowError as error:
        if isinstance(error, OutputError):
            silence(sys.stdout)
            if error.reader_is_gone:  # as with `| head`, which is no failure to tell of
                return error.exit_code
        return _reported(f"error: {str(error) or type(error).__name__}", error.exit_code)
    except KeyboardInterrupt as end:
        return _reported("terminated", 143) if isinstance(end, Terminated) else _reported("interrupted", 130)
    except OSError as error:
        if error.filename is None:
            raise
        return _reported(f"error: {error.filename}: {error.strerror}", 1)
    return 0


def _reported(line: str, exit_code: int) -> int:
    with suppress(UsageError):  # that the variable is set to something else is an error of the command's
        if environment.DEBUG.value():
            note(traceback.format_exc())
    note(" ".join(line.split()))
    return exit_code


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


class _Output(io.TextIOWrapper):
    """Standard output. An OutputError tells its failures from those of all other files."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OutputError(error) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputError(error) from error


def open_streams() -> None:
    """Have all three streams of this process open, able to take any text, and standard output with its own error."""
    # What is closed (`>&-`) is opened: the next file would get its number, and what is printed would go into that file.
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest number that is free; to write to a closed output stays an error
    encoding = sys.stdout.encoding if sys.stdout else "utf-8"
    buffer = os.fdopen(1, "wb", closefd=False)
    by_line = buffer.isatty() or getattr(sys.stdout, "write_through", False)  # that is PYTHONUNBUFFERED
    sys.stdout = _Output(buffer, encoding, SPELT_OUT, None, by_line)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    spell_out()


def spell_out() -> None:
    """Have output and errors spell out what they have no sign for, instead of failing."""
    streams: tuple[IO[str] | None, ...] = (sys.stdout, sys.stderr)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=SPELT_OUT)


def close_streams() -> None:
    """Write out what is held back, so that nothing is left to fail when the interpreter ends. Raises OutputError."""
    try:
        sys.stderr.flush()
    except OSError:
        silence(sys.stderr)
    sys.stdout.flush()


def silence(stream: IO[str]) -> None:
    """Let what a stream holds back go nowhere: it could not be written, and would fail again."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)
