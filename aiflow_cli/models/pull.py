"""Fetching what a plan says is missing, into the hub's cache.

huggingface_hub drops a file that was broken off, and takes a server's word for what a file is. So files are fetched
here: a partial one is kept and goes on where it stopped, also in another process; what has come is compared with the
digest that the hub states before it gets its name; and a snapshot appears whole, once all its files are there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import get_session, hf_hub_url
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from aiflow_cli.disk import put_in_place, replace_file, sync_folder
from aiflow_cli.errors import CheckpointError, StoreError
from aiflow_cli.fetching import alone, retrying
from aiflow_cli.models.hub import POLICY, Plan, RemoteFile, is_passing, size_of, translated

SPARE_BYTES = 200_000_000
"""What a download leaves free on the disk."""
_JOBS = 4

Progress = Callable[[int], None]
"""Told how many bytes are here so far."""


class Pulled(NamedTuple):
    """A checkpoint's folder, and how many bytes had to come for it."""

    folder: Path
    fetched_bytes: int


def pull(plan: Plan, progress: Progress = lambda done: None, tell: Callable[[str], None] = lambda line: None) -> Pulled:
    """Fetch what is missing. While another process pulls the same repository, its end is awaited, and `tell` is told.

    Raises StoreError without room, LinkError if it broke off, CheckpointError if what came is not what the hub says.
    """
    cache = plan.repository.cache
    lock = cache.parent / ".locks" / cache.name / "aiflow-pull.lock"
    with (
        translated(plan.repository),
        alone(lock, lambda: tell(f"another pull of {plan.repository} is running: waiting for its end")),
    ):
        _check_space(plan)
        counter = _Counter(plan.here_bytes, progress)
        _fetch_all(plan, counter)
        _name_all(plan)
    progress(plan.total_bytes)
    return Pulled(plan.snapshot, counter.fetched)


def _check_space(plan: Plan) -> None:
    needed = plan.total_bytes - plan.here_bytes
    place = next(path for path in (plan.repository.cache, *plan.repository.cache.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if needed and needed + SPARE_BYTES > free:
        raise StoreError(
            f"{plan.repository} needs {needed / 1e9:.1f} GB more, {place} has {free / 1e9:.1f} GB free: "
            "free some, or set HF_HOME to a folder on a larger disk"
        )


class _Counter:
    """Adds up bytes from several threads: those that are here, and those that came now."""

    def __init__(self, start: int, progress: Progress) -> None:
        self.fetched, self._here, self._progress, self._lock = 0, start, progress, threading.Lock()

    def came(self, count: int) -> None:
        with self._lock:
            self.fetched += count
            self._here += count
            self._progress(self._here)

    def dropped(self, count: int) -> None:
        with self._lock:
            self._here -= count


def _fetch_all(plan: Plan, counter: _Counter) -> None:
    contents = {file.digest: file for file in plan.missing if not plan.has_blob(file)}  # two names may have one content
    stop = threading.Event()
    pool = ThreadPoolExecutor(_JOBS)
    try:
        for done in as_completed([pool.submit(_fetch, plan, file, counter, stop) for file in contents.values()]):
            done.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _fetch(plan: Plan, file: RemoteFile, counter: _Counter, stop: threading.Event) -> None:
    """One content into the cache, going on from a partial file; tried again while something new still arrives."""
    partial = plan.partial(file)
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.touch()
    most = size_of(partial)
    for attempt in retrying(POLICY, stop, is_passing):
        with attempt:
            for here in _append(plan, file, counter):
                if here > most:
                    most, attempt.retry_state.attempt_number = here, 1  # patience begins anew
                if stop.is_set():
                    return
    _verify(file, partial)
    put_in_place(partial, plan.blob(file))


def _append(plan: Plan, file: RemoteFile, counter: _Counter) -> Iterator[int]:
    """Fetch what a partial file lacks; its size after each piece. Raises what `is_passing` knows if not all comes."""
    partial = plan.partial(file)
    here = size_of(partial)
    if here >= file.size_bytes:
        return
    url = hf_hub_url(plan.repository.id, file.name, revision=plan.commit)
    headers = build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={here}-"} if here else {})
    with get_session().stream("GET", url, headers=headers, follow_redirects=True) as response:
        hf_raise_for_status(response)
        resumed = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {here}-")
        if not resumed:  # the server knows no ranges, or gives another one
            counter.dropped(here)
            here = 0
        with partial.open("ab" if here else "wb") as output:
            for piece in response.iter_raw():
                here += len(piece)
                if here > file.size_bytes:
                    break
                output.write(piece)
                counter.came(len(piece))
                yield here
    if here > file.size_bytes:
        _refuse(file, partial, f"more than the {file.size_bytes} bytes that the hub says came")
    if here < file.size_bytes:
        raise ConnectionError(f"{file.name} ended after {here} of {file.size_bytes} bytes")


def _verify(file: RemoteFile, path: Path) -> None:
    large = len(file.digest) == 64
    digest = hashlib.sha256() if large else hashlib.sha1(b"blob %d\0" % size_of(path), usedforsecurity=False)  # as git
    with path.open("rb") as content:
        if hashlib.file_digest(content, lambda: digest).hexdigest() != file.digest:
            _refuse(file, path, f"its {digest.name} is not the hub's")


def _refuse(file: RemoteFile, path: Path, reason: str) -> None:
    path.unlink()
    raise CheckpointError(f"{file.name} arrived damaged ({reason}): run the same command again")


def _name_all(plan: Plan) -> None:
    """Give every content its name in the snapshot, which appears whole if it is new, then the revision its commit."""
    if plan.snapshot.is_dir():
        _link(plan, plan.missing, plan.snapshot)
    else:
        new = plan.snapshot.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        _link(plan, plan.files, new)
        new.rename(plan.snapshot)
        sync_folder(plan.snapshot.parent)
    if plan.repository.revision != plan.commit:  # for the next look without a network
        reference = plan.repository.cache / "refs" / plan.repository.revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        replace_file(reference, plan.commit.encode())


def _link(plan: Plan, files: tuple[RemoteFile, ...], folder: Path) -> None:
    for file in files:
        name = folder / file.name
        name.parent.mkdir(parents=True, exist_ok=True)
        name.unlink(missing_ok=True)
        try:
            name.symlink_to(os.path.relpath(plan.blob(file), name.parent))
        except OSError:  # a file system without links
            shutil.copyfile(plan.blob(file), name)
    for inner in {(folder / file.name).parent for file in files}:
        sync_folder(inner)
