"""Files that a power cut leaves whole: what is renamed has its bytes on the disk first, and its new name after."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Have the disk know the names in `folder`: before that, new files and renames go with the power."""
    with contextlib.suppress(OSError):  # a file system that does not sync folders
        _sync(folder)


def make_folder(folder: Path) -> None:
    """Make `folder`, and what is lacking above it, durably. Raises OSError."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a complete file its name, durably: at any moment `path` is the old file or the new one. Raises OSError."""
    _sync(temporary)
    temporary.replace(path)
    sync_folder(path.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Write `path`: at any moment it is the old file or the new one. Raises OSError, and leaves nothing behind then."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(data)
        put_in_place(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):  # what matters is the first error, not one of the clean-up
            temporary.unlink(missing_ok=True)
        raise
