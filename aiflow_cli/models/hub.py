"""Checkpoints on the Hugging Face hub: what a repository holds, what of it is here, and fetching the rest.

Everything lies in the hub's own cache (HF_HOME), as huggingface_hub lays it out, and counts for other programs too. Since huggingface_hub 2
drops a file that was broken off, weight files are fetched here first, straight into the cache: a partial file is kept and goes on where it
stopped, also in another process, and is compared with the sha256 that the hub states. `snapshot_download` does the rest.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import HfApi, constants, get_session, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    build_hf_headers,
    disable_progress_bars,
    enable_progress_bars,
    hf_raise_for_status,
)

from aiflow_cli.errors import AiflowError, CheckpointError, LinkError, PrerequisiteError, StoreError, UsageError

WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "README.md", "LICENSE*"]
"""No code, no pictures, no weights in pickles."""
SPARE_BYTES = 200_000_000
"""What a download leaves free on the disk."""
_JOBS = 4
_ATTEMPTS = 5
_PAUSE_S = 0.5
_TRANSPORT_ERROR: type[Exception] = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
"""Base of what the hub's HTTP library raises; which library that is changes with huggingface_hub's version."""
_REPOSITORY = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?")

Progress = Callable[[int], None]
"""Told how many bytes are here so far."""


@dataclass(frozen=True)
class Repository:
    """A repository of the hub at a revision: a branch, a tag, or a commit, which pins it."""

    id: str
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> Repository | None:
        """The repository that `OWNER/NAME` or `OWNER/NAME@REVISION` names; None if it names none."""
        match = _REPOSITORY.fullmatch(text)
        return cls(match["id"], match["revision"] or "main") if match else None

    def __str__(self) -> str:
        """As it is written."""
        return self.id if self.revision == "main" else f"{self.id}@{self.revision}"

    @property
    def cache(self) -> Path:
        """Its folder in the hub's cache."""
        return Path(constants.HF_HUB_CACHE) / f"models--{self.id.replace('/', '--')}"


class RemoteFile(NamedTuple):
    """A file of a repository; `sha256` is None for small ones, which are kept in git itself."""

    name: str
    size_bytes: int
    sha256: str | None


@dataclass(frozen=True)
class Plan:
    """What pulling a repository means: the commit, its files, and those of them that are not here."""

    repository: Repository
    commit: str
    files: tuple[RemoteFile, ...]
    missing: tuple[RemoteFile, ...]

    @property
    def total_bytes(self) -> int:
        """Size of all files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def here_bytes(self) -> int:
        """Bytes that are here already, partial files included."""
        partial = sum(size_of(self._partial(file)) for file in self.missing if file.sha256)
        return self.total_bytes - sum(file.size_bytes for file in self.missing) + partial

    def blob(self, file: RemoteFile) -> Path:
        """Where the cache keeps a weight file's content."""
        return self.repository.cache / "blobs" / str(file.sha256)

    def _partial(self, file: RemoteFile) -> Path:
        return self.blob(file).with_suffix(".partial")


def size_of(path: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def cached_folder(repository: Repository) -> Path | None:
    """Where a repository is on this machine, or None if it is not, or not whole; nothing is fetched."""
    try:
        return Path(
            snapshot_download(repository.id, revision=repository.revision, allow_patterns=WANTED, local_files_only=True)
        )
    except LocalEntryNotFoundError:
        return None


def display_name(folder: Path) -> str:
    """What to call a checkpoint folder: its name, or the repository's if it lies in the hub's cache."""
    parts = folder.parts
    if len(parts) >= 3 and parts[-2] == "snapshots" and parts[-3].startswith("models--"):
        return parts[-3].rpartition("--")[2]
    return folder.name


def make_plan(repository: Repository) -> Plan:
    """Ask the hub what a repository holds. Raises UsageError if there is none, PrerequisiteError offline or without access, LinkError."""
    with _translated(repository):
        info: Any = HfApi().model_info(repository.id, revision=repository.revision, files_metadata=True)
    commit = str(info.sha)
    named = [file for file in info.siblings or () if any(Path(file.rfilename).match(pattern) for pattern in WANTED)]
    files = tuple(RemoteFile(f.rfilename, f.size or 0, f.lfs.sha256 if f.lfs else None) for f in named)
    snapshot = repository.cache / "snapshots" / commit
    return Plan(repository, commit, files, tuple(file for file in files if not (snapshot / file.name).exists()))


def pull(plan: Plan, progress: Progress = lambda done: None) -> Path:
    """Fetch what is missing; the checkpoint's folder. Raises StoreError without room, LinkError if it broke off, CheckpointError if damaged."""
    _check_space(plan)
    with _translated(plan.repository), _no_bars():
        _fetch_weights(plan, progress)
        folder = snapshot_download(plan.repository.id, revision=plan.commit, allow_patterns=WANTED)
        if plan.repository.revision != plan.commit:  # the name's commit, for the next look without a network
            reference = plan.repository.cache / "refs" / plan.repository.revision
            reference.parent.mkdir(parents=True, exist_ok=True)
            reference.write_text(plan.commit)
    progress(plan.total_bytes)
    return Path(folder)


def _check_space(plan: Plan) -> None:
    needed = plan.total_bytes - plan.here_bytes
    place = next(path for path in (plan.repository.cache, *plan.repository.cache.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if needed and needed + SPARE_BYTES > free:
        raise StoreError(
            f"{plan.repository} needs {needed / 1e9:.1f} GB more, {place} has {free / 1e9:.1f} GB free: "
            "free some, or set HF_HOME to a folder on a larger disk"
        )


def _fetch_weights(plan: Plan, progress: Progress) -> None:
    files = [file for file in plan.missing if file.sha256 and not plan.blob(file).exists()]
    counter = _Counter(plan.here_bytes, progress)
    stop = threading.Event()
    pool = ThreadPoolExecutor(_JOBS)
    try:
        for done in as_completed([pool.submit(_fetch, plan, file, counter, stop) for file in files]):
            done.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


class _Counter:
    """Adds up bytes from several threads."""

    def __init__(self, start: int, progress: Progress) -> None:
        self._done, self._progress, self._lock = start, progress, threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._progress(self._done)


def _fetch(plan: Plan, file: RemoteFile, counter: _Counter, stop: threading.Event) -> None:
    """One weight file into the cache, going on from a partial one; tried again while something still arrives."""
    partial = plan.blob(file).with_suffix(".partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while size_of(partial) < file.size_bytes and not stop.is_set():
        before = size_of(partial)
        try:
            _append(plan, file, partial, counter, stop)
        except (_TRANSPORT_ERROR, ConnectionError) as error:
            failures = 1 if size_of(partial) > before else failures + 1
            if isinstance(error, HfHubHTTPError) or failures >= _ATTEMPTS:
                raise
            stop.wait(_PAUSE_S * 2**failures)
    if not stop.is_set():
        _verify(file, partial)
        partial.replace(plan.blob(file))


def _append(plan: Plan, file: RemoteFile, partial: Path, counter: _Counter, stop: threading.Event) -> None:
    start = size_of(partial)
    url = hf_hub_url(plan.repository.id, file.name, revision=plan.commit)
    headers = build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with get_session().stream("GET", url, headers=headers, follow_redirects=True) as response:
        hf_raise_for_status(response)
        if start and response.status_code != 206:  # the server knows no ranges
            counter.add(-start)
            start = 0
        with partial.open("ab" if start else "wb") as output:
            for chunk in response.iter_raw():
                output.write(chunk)
                counter.add(len(chunk))
                if stop.is_set():
                    return


def _verify(file: RemoteFile, path: Path) -> None:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != file.sha256:
        path.unlink()
        raise CheckpointError(f"{file.name} arrived damaged (its sha256 is not the hub's): run the same command again")


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """The hub's own progress bars belong to nobody here."""
    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextlib.contextmanager
def _translated(repository: Repository) -> Iterator[None]:
    """The hub's errors as ours, each one line with its remedy."""
    try:
        yield
    except AiflowError:
        raise
    except OfflineModeIsEnabled:
        raise PrerequisiteError(
            f"{repository} is not on this machine, and offline mode is on: unset HF_HUB_OFFLINE to fetch it"
        ) from None
    except GatedRepoError:
        raise PrerequisiteError(
            f"{repository} is gated: ask for access at {constants.ENDPOINT}/{repository.id}, then `hf auth login` or set HF_TOKEN"
        ) from None
    except RevisionNotFoundError:
        raise UsageError(
            f"{repository.id} has no revision {repository.revision!r}: give a branch, tag or commit"
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise UsageError(
            f"there is no repository {repository.id} at {constants.ENDPOINT}: check the name; if it is private, set HF_TOKEN"
        ) from None
    except (_TRANSPORT_ERROR, ConnectionError, LocalEntryNotFoundError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise LinkError(
            f"fetching {repository} from {constants.ENDPOINT} broke off ({reason}): run the same command again, it goes on from there"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreError(
                f"no space left for {repository} in {repository.cache}: free some, or set HF_HOME to a folder on a larger disk"
            ) from error
        raise StoreError(
            f"cannot write {repository} to {repository.cache} ({error}): check the folder, or set HF_HOME"
        ) from error
