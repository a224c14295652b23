"""A result: a folder with `trials.jsonl` (one line a trial, on disk before the next starts) and `run.json`.

`run.json` is written by rename, so that it is always whole. A torn last line of `trials.jsonl` (power cut, disk full) is
passed over on reading, and cut off before the next is appended.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiflow_cli import disk
from aiflow_cli.errors import StoreError

RESULTS = Path("results")
SCHEMA_VERSION = 1

Record = dict[str, Any]
"""One trial, as it stands in trials.jsonl."""


def new_folder(name: str, output: Path | None = None) -> Path:
    """Make the folder of a new result: `output`, or `results/<stamp>-<name>`. Raises StoreError if it holds one already."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = output or _unused(RESULTS / f"{stamp}-{name}")
    if (folder / "trials.jsonl").exists():
        raise StoreError(f"{folder} already holds a result: give another --output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _store_error(folder, error) from error
    return folder


def _unused(folder: Path) -> Path:
    """`folder`, with a number behind it if another run began in the same second."""
    return next(path for n in range(1, 1000) if not (path := folder if n == 1 else Path(f"{folder}-{n}")).exists())


class TrialWriter:
    """Appends trials to `trials.jsonl` of a folder, each flushed to the disk. A context manager."""

    def __init__(self, folder: Path) -> None:
        """Open the file; what a torn last line left is cut off. Raises StoreError."""
        self.path = folder / "trials.jsonl"
        try:
            self._file = self.path.open("ab", buffering=0)  # no buffer that would write a refused line again on closing
            self._file.truncate(_whole_lines(self.path.read_bytes()))
        except OSError as error:
            raise _store_error(self.path, error) from error

    def append(self, *records: Mapping[str, Any]) -> None:
        """Write trials and wait until the disk has them. Raises StoreError; what was written of them is then taken back."""
        end = os.fstat(self._file.fileno()).st_size
        try:
            rest = memoryview(b"".join(map(_line, records)))
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(end)
            raise _store_error(self.path, error) from error

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        """Close the file."""
        self._file.close()


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _whole_lines(data: bytes) -> int:
    return data.rfind(b"\n") + 1


def rewrite_trials(folder: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Put `records` in place of what `trials.jsonl` holds, at once; on failure the old file stays. Raises StoreError."""
    replace_file(folder / "trials.jsonl", b"".join(map(_line, records)))


def write_run(folder: Path, document: Mapping[str, Any]) -> None:
    """Write `run.json` at once. Raises StoreError."""
    replace_file(folder / "run.json", json.dumps(document, indent=2, allow_nan=False).encode() + b"\n")


def replace_file(path: Path, data: bytes) -> None:
    """Write `path` so that at any moment it is either the old file or the new one. Raises StoreError."""
    try:
        disk.replace_file(path, data)
    except OSError as error:
        raise _store_error(path, error) from error


def read_trials(folder: Path) -> list[Record]:
    """Every finished trial of a result, warm-ups included. Raises StoreError if there are none or a line is damaged."""
    path = folder / "trials.jsonl"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{folder} holds no result ({error.strerror}): give a folder with a trials.jsonl") from error
    try:
        return [json.loads(line) for line in data[: _whole_lines(data)].splitlines()]
    except ValueError as error:
        raise StoreError(f"{path} is damaged ({error})") from error


def read_run(folder: Path) -> dict[str, Any]:
    """`run.json` of a result. Raises StoreError."""
    try:
        document: dict[str, Any] = json.loads((folder / "run.json").read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {folder / 'run.json'} ({error})") from error
    return document


def _store_error(path: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(f"no space left to write {path}: finished trials are kept; free some space and run again")
    return StoreError(f"cannot write {path} ({error.strerror}): give another --output")
