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
import time
from collections.abc import Callable, Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path

from huggingface_hub import get_session, hf_hub_url
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from aiflow_cli.disk import put_in_place, replace_file, sync_folder
from aiflow_cli.errors import CheckpointError, StoreError
from aiflow_cli.fetching import alone, retrying
from aiflow_cli.models.hub import POLICY, Plan, RemoteFile, is_passing, size_of, translated

SPARE_BYTES = 200_000_000
"""What a download leaves free on the disk."""
_JOBS = 4
_LOOK_S = 0.2
"""How often progress is looked at."""
_LAST_PIECE_S = 1.0
"""How long those that fetch may take to notice that they are to end: each stops after the piece that it waits for."""

Progress = Callable[[int], None]
"""Told how many bytes are here so far."""


def pull(plan: Plan, progress: Progress = lambda done: None, tell: Callable[[str], None] = lambda line: None) -> int:
    """Fetch what is missing; returns how many bytes came for it.

    While another process pulls the same repository, its end is awaited, and `tell` is told. Raises StoreError without
    room, LinkError if it broke off, CheckpointError if what came is not what the hub says.
    """
    cache = plan.repository.cache
    lock = cache.parent / ".locks" / cache.name / "aiflow-pull.lock"
    waiting = f"another pull of {plan.repository} is running: waiting for its end"
    with translated(plan.repository), alone(lock, lambda: tell(waiting)):
        needed, place = plan.missing_bytes, next(path for path in (cache, *cache.parents) if path.exists())
        if needed and needed + SPARE_BYTES > (free := shutil.disk_usage(place).free):
            lacking = f"{plan.repository} needs {needed / 1e9:.1f} GB more, {place} has {free / 1e9:.1f} GB free"
            raise StoreError(f"{lacking}: free some, or set HF_HOME to a folder on a larger disk")
        fetched_bytes = _fetch_all(plan, progress)
        _name_all(plan)
    progress(plan.total_bytes)
    return fetched_bytes


def _fetch_all(plan: Plan, progress: Progress) -> int:
    """Fetch all contents, several at a time; how many bytes came. What is on the disk tells how far they are.

    The threads are daemons: Ctrl-C need not wait for a hub that is silent.
    """
    fetched_bytes, stop = 0, threading.Event()
    with ThreadPool(_JOBS) as pool:
        running = [pool.apply_async(_fetch, (plan, file, stop)) for file in plan.contents]
        try:
            while running:
                running[0].wait(_LOOK_S)
                for done in [one for one in running if one.ready()]:
                    running.remove(done)
                    fetched_bytes += done.get()
                progress(plan.total_bytes - plan.missing_bytes)
        finally:
            stop.set()
            ends = time.monotonic() + _LAST_PIECE_S
            for one in running:
                one.wait(max(0.0, ends - time.monotonic()))
    return fetched_bytes


def _fetch(plan: Plan, file: RemoteFile, stop: threading.Event) -> int:
    """One content into the cache, going on from a partial file; tried again while something new still arrives."""
    if stop.is_set():
        return 0
    partial = plan.partial(file)
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.touch()
    most, fetched_bytes = size_of(partial), 0
    for attempt in retrying(POLICY, stop, is_passing):
        with attempt:
            for here, came in _append(plan, file):
                fetched_bytes += came
                if here > most:
                    most, attempt.retry_state.attempt_number = here, 1  # patience begins anew
                if stop.is_set():
                    return fetched_bytes
    _check(file, partial)
    put_in_place(partial, plan.blob(file))
    return fetched_bytes


def _append(plan: Plan, file: RemoteFile) -> Iterator[tuple[int, int]]:
    """Fetch what a partial file lacks; after each piece the file's size and the piece's.

    Raises what `is_passing` knows if not all comes.
    """
    partial = plan.partial(file)
    here = size_of(partial)
    if here >= file.size_bytes:
        return
    url = hf_hub_url(plan.repository.id, file.name, revision=plan.commit)
    headers = build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={here}-"} if here else {})
    options = {"headers": headers, "follow_redirects": True, "timeout": POLICY.timeout_s}  # the library waits for ever
    with get_session().stream("GET", url, **options) as response:
        hf_raise_for_status(response)
        if response.status_code != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {here}-"):
            here = 0  # the server knows no ranges, or gives another one
        with partial.open("ab" if here else "wb") as output:
            for piece in response.iter_raw():
                here += output.write(piece)
                yield here, len(piece)
                if here > file.size_bytes:
                    return
    if here < file.size_bytes:
        raise ConnectionError(f"{file.name} ended after {here} of {file.size_bytes} bytes")


def _check(file: RemoteFile, partial: Path) -> None:
    """Raise CheckpointError, and drop what came, unless it is what the hub says."""
    size = size_of(partial)
    digest = hashlib.sha256() if len(file.digest) == 64 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with partial.open("rb") as content:
        hashlib.file_digest(content, lambda: digest)
    if size > file.size_bytes or digest.hexdigest() != file.digest:
        partial.unlink()
        long = f"more than the {file.size_bytes} bytes that the hub says came"
        reason = long if size > file.size_bytes else f"its {digest.name} is not the hub's"
        raise CheckpointError(f"{file.name} arrived damaged ({reason}): run the same command again")


def _name_all(plan: Plan) -> None:
    """Give every content its name in the snapshot, which appears whole if it is new, then the revision its commit."""
    folder = plan.snapshot if plan.snapshot.is_dir() else plan.snapshot.with_suffix(".new")
    if folder != plan.snapshot:
        shutil.rmtree(folder, ignore_errors=True)
    for file in plan.missing:
        name = folder / file.name
        name.parent.mkdir(parents=True, exist_ok=True)
        name.unlink(missing_ok=True)
        try:
            name.symlink_to(os.path.relpath(plan.blob(file), name.parent))
        except OSError:  # a file system without links
            shutil.copyfile(plan.blob(file), name)
        sync_folder(name.parent)
    if folder != plan.snapshot:
        folder.rename(plan.snapshot)
        sync_folder(plan.snapshot.parent)
    if plan.repository.revision != plan.commit:  # for the next look without a network
        reference = plan.repository.cache / "refs" / plan.repository.revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        replace_file(reference, plan.commit.encode())
