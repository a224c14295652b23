"""A result: a folder with `trials.jsonl` (one line a trial, on disk before the next starts) and `run.json`; when it is
finished, its trials as tables too, which can stand in for `trials.jsonl`.

`run.json` is written by rename, so that it is always whole. A torn last line of `trials.jsonl` (power cut, disk full)
is passed over on reading, and cut off before the next is appended. A folder has one owner at a time (`owned`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from aiflow_cli import disk
from aiflow_cli.errors import StoreError
from aiflow_cli.text import printable_json
from aiflow_cli.trials import tables
from aiflow_cli.world.record import SCHEMA_VERSION, Trial

__all__ = ["SCHEMA_VERSION"]

RESULTS = Path("results")
LINES, TABLE = "trials.jsonl", tables.TRIALS

_OLDER = "it is of an older aiflow (schema 1): run the experiment anew"
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Trial)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Have what the system refuses told as a StoreError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            said = f"no space left to write {path}: finished trials are kept; free some space and run again"
        else:
            said = f"cannot write {path} ({error.strerror}): give another --output"
        raise StoreError(said) from error


def new_folder(name: str) -> Path:
    """A new folder `results/<stamp>-<name>`. Raises StoreError."""
    stamped = make_folder(RESULTS) / f"{datetime.now():%Y%m%d-%H%M%S}-{name}"
    folder = stamped
    for number in itertools.count(2):  # others may begin in the same second: whoever makes the folder has it
        with _told(folder):
            try:
                folder.mkdir()
                break
            except FileExistsError:
                folder = stamped.with_name(f"{stamped.name}-{number}")
    disk.sync_folder(RESULTS)
    return folder


def make_folder(folder: Path) -> Path:
    """`folder`, made if need be. Raises StoreError."""
    with _told(folder):
        disk.make_folder(folder)
    return folder


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold a folder against all others that would write into it. Raises StoreError if one of them holds it.

    The lock is on the folder itself: no file is left behind, and the system lets go of it however this process ends.
    """
    with _told(folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreError(f"another aiflow is writing into {folder}: wait for it, or name another folder") from None


def holds_trials(folder: Path) -> bool:
    """Whether there is a file of trials, whatever is in it."""
    return any((folder / name).exists() for name in (LINES, TABLE))


class TrialWriter(contextlib.ExitStack):
    """Appends trials to `trials.jsonl` of a folder, each flushed to the disk. A context manager."""

    def __init__(self, folder: Path, found: Iterable[Trial] = ()) -> None:
        """Open the file; what a torn last line left is cut off. A folder that had tables alone gets its file of what
        was `found` in them. Raises StoreError.
        """
        super().__init__()
        self.path = folder / LINES
        if not self.path.exists():
            rewrite_trials(folder, found)
        with _told(self.path):
            # without a buffer, which would write a refused line again on closing
            self._file = self.enter_context(self.path.open("ab", buffering=0))
            whole, last = _parted(self.path.read_bytes())
            if is_whole(last):
                self._file.write(b"\n")
            else:
                self._file.truncate(len(whole))

    def append(self, *trials: Trial) -> None:
        """Write trials and wait until the disk has them. Raises StoreError; what was written is then taken back."""
        end = os.fstat(self._file.fileno()).st_size
        with _told(self.path):
            try:
                rest = memoryview(b"".join(map(_line, trials)))
                while rest:
                    rest = rest[self._file.write(rest) :]
                os.fsync(self._file.fileno())
            except OSError:
                with contextlib.suppress(OSError):  # what is left of a line then is passed over on reading
                    self._file.truncate(end)
                raise


def _line(trial: Trial) -> bytes:
    return _encoder.encode(trial) + b"\n"


def _parted(data: bytes) -> tuple[bytes, bytes]:
    """The lines that end, and what stands behind them."""
    end = data.rfind(b"\n") + 1
    return data[:end], data[end:]


def is_whole(line: bytes) -> bool:
    """Whether a line is a JSON object from its beginning to its end: one that lacks only its newline is not torn."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def rewrite_trials(folder: Path, trials: Iterable[Trial]) -> None:
    """Put `trials` in place of what `trials.jsonl` holds, at once; on failure the old file stays. Raises StoreError."""
    replace_file(folder / LINES, b"".join(map(_line, trials)))


def write_run(folder: Path, document: Mapping[str, Any]) -> None:
    """Write `run.json` at once. Raises StoreError."""
    replace_file(folder / "run.json", json.dumps(printable_json(document), indent=2, allow_nan=False).encode() + b"\n")


def replace_file(path: Path, data: bytes) -> None:
    """Write `path` so that at any moment it is either the old file or the new one. Raises StoreError."""
    with _told(path):
        disk.replace_file(path, data)


def write_tables(folder: Path, trials: Iterable[Trial]) -> None:
    """Write the measured trials as tables. Raises StoreError."""
    for name, data in tables.of_trials(trials).items():
        replace_file(folder / name, data)


def read_trials(folder: Path) -> list[Trial]:
    """Every finished trial of a result, warm-ups included; of its tables where there is no trials.jsonl. Raises
    StoreError if there are none, or they are damaged.
    """
    path = folder / LINES
    if not path.exists() and (folder / TABLE).exists():
        return _read_tables(folder)
    whole, last = _read_parted(path)
    lines = [*whole.splitlines(), *([last] if is_whole(last) else [])]
    return [_trial(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def _read_tables(folder: Path) -> list[Trial]:
    try:
        return tables.read(folder)
    except KeyError as error:
        raise StoreError(f"{folder / TABLE} has no column {error}: {_OLDER}") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read the tables in {folder} ({error}): give a folder with whole ones") from None


def torn_note(folder: Path) -> str | None:
    """What is to be said of a last line that was not written to its end; None where there is none. Raises
    StoreError.
    """
    path = folder / LINES
    whole, last = _read_parted(path)
    if not last.strip() or is_whole(last):
        return None
    number = whole.count(b"\n") + 1
    return f"{path}:{number} is torn and passed over: it was not written to its end"


def _read_parted(path: Path) -> tuple[bytes, bytes]:
    try:
        return _parted(path.read_bytes())
    except OSError as error:
        raise StoreError(
            f"{path.parent} holds no result ({error.strerror}): give a folder with a trials.jsonl"
        ) from error


def _trial(line: bytes, where: str) -> Trial:
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if is_whole(line) and "setting" not in json.loads(line):
            raise StoreError(f"{where}: {_OLDER}") from None
        raise StoreError(
            f"{where} is damaged ({error}): take that line out, and its trial counts as not made"
        ) from error


def read_run(folder: Path) -> dict[str, Any]:
    """`run.json` of a result. Raises StoreError."""
    try:
        document = json.loads((folder / "run.json").read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"cannot read {folder / 'run.json'} ({error})") from error
    if not isinstance(document, dict):
        raise StoreError(f"{folder / 'run.json'} is damaged: it is no JSON object")
    return document
