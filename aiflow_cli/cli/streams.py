"""The standard streams: open, able to take any text, and with an error of their own when they take no more."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import IO

from aiflow_cli.errors import AiflowError
from aiflow_cli.text import SPELT_OUT

__all__ = ["OutputError", "close_streams", "open_streams", "silence", "spell_out"]


class OutputError(AiflowError):
    """Standard output takes no more: the disk behind it is full, it was closed, or its reader went away."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written: {error.strerror}")
        self.reader_is_gone = error.errno == errno.EPIPE


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
    """Make all three streams of this process what this module promises."""
    _open_closed_ones()
    encoding = sys.stdout.encoding if sys.stdout else "utf-8"
    buffer = os.fdopen(1, "wb", closefd=False)
    by_line = buffer.isatty() or getattr(sys.stdout, "write_through", False)  # that is PYTHONUNBUFFERED
    sys.stdout = _Output(buffer, encoding, SPELT_OUT, None, by_line)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    spell_out()


def _open_closed_ones() -> None:
    """Open what is closed (`>&-`): the next file would get its number, and what is printed would go into that file."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest number that is free; to write to a closed output stays an error


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
