"""Paths as people write them, checked once where they come in: what no file system can hold is said there."""

from __future__ import annotations

import os
from pathlib import Path

from aiflow_cli.errors import UsageError

LONGEST_NAME_BYTES = 255
LONGEST_PATH_BYTES = 4095
"""What Linux and macOS take at most; a longer name fails in whichever call meets it first."""
_SHOWN = 40


def user_path(text: str) -> Path:
    """The path that a user writes, `~` and `~name` expanded.

    Raises UsageError for a user that is not known, a name or path that is too long, and text that can be no path.
    """
    if not text or "\0" in text:
        raise UsageError(f"{_shown(text)} is no path: give the name of a folder or a file")
    path = Path(os.path.expanduser(text))  # noqa: PTH111  pathlib takes ./~name for ~name
    if text.startswith("~") and path == Path(text):
        raise UsageError(f"{_shown(text)}: no user of that name is known here: write the path out")
    limits = [("path", str(path), LONGEST_PATH_BYTES), *(("name", part, LONGEST_NAME_BYTES) for part in path.parts)]
    for what, name, most in limits:
        try:
            size = len(os.fsencode(name))
        except UnicodeEncodeError:
            raise UsageError(f"{_shown(name)} is no path: no file's name can hold that") from None
        if size > most:
            raise UsageError(f"the {what} {_shown(name)} has {size} bytes, {most} is the most: shorten it")
    return path


def _shown(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."
