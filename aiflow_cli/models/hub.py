"""Checkpoints on the Hugging Face hub: what a repository holds and what of it is here (`models/pull.py` fetches it).

Everything lies in the hub's own cache (HF_HOME), as huggingface_hub lays it out, and counts for other programs too.
What the hub says is a stranger's word: names, commits and digests become paths here, so each is checked before it does.
"""

from __future__ import annotations

import contextlib
import errno
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from huggingface_hub import HfApi, constants, errors, snapshot_download

from aiflow_cli.errors import LinkError, PrerequisiteError, StoreError, UsageError
from aiflow_cli.fetching import RetryPolicy, passes, retrying
from aiflow_cli.text import one_line

WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "README.md", "LICENSE*"]
"""No code, no pictures, no weights in pickles."""
POLICY = RetryPolicy(longest_pause_s=60.0)
_TRANSPORT_ERROR: type[Exception] = next(kind for kind in errors.HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
"""Base of what the hub's HTTP library raises; which library that is changes with huggingface_hub's version."""
_REPOSITORY = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>(?!.*\.\.)[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


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
    """A file of a repository; `digest`, its content's name in the cache, is sha256 if it is large, else git's sha1."""

    name: str
    size_bytes: int
    digest: str

    def is_whole(self, path: Path) -> bool:
        """Whether `path` is a file of this size."""
        return path.is_file() and path.stat().st_size == self.size_bytes


@dataclass(frozen=True)
class Plan:
    """What pulling a repository means: the commit and its files. What of them is missing is looked up when asked."""

    repository: Repository
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def snapshot(self) -> Path:
        """The folder in which the files have their names."""
        return self.repository.cache / "snapshots" / self.commit

    @property
    def missing(self) -> list[RemoteFile]:
        """Files that have no name in the snapshot, or another content."""
        return [file for file in self.files if not file.is_whole(self.snapshot / file.name)]

    @property
    def contents(self) -> list[RemoteFile]:
        """What of the missing is to be fetched: each content once, and none that another program has fetched."""
        return list({file.digest: file for file in self.missing if not file.is_whole(self.blob(file))}.values())

    @property
    def total_bytes(self) -> int:
        """Size of all files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def missing_bytes(self) -> int:
        """Bytes that are still to come; partial files count as far as they go."""
        return sum(max(0, file.size_bytes - size_of(self.partial(file))) for file in self.contents)

    def blob(self, file: RemoteFile) -> Path:
        """Where the cache keeps a file's content."""
        return self.repository.cache / "blobs" / file.digest

    def partial(self, file: RemoteFile) -> Path:
        """Where the content grows until it is whole."""
        return self.blob(file).with_suffix(".partial")


def size_of(path: Path) -> int:
    """Bytes of a file, 0 if there is none, or none any more: while it is looked at, a partial file gets its name."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def cached_folder(repository: Repository) -> Path | None:
    """Where a repository is on this machine, or None if it is not, or not whole; nothing is fetched.

    A revision's commit is what `refs` say of it; where a copied cache lacks them, the only commit is that of `main`.
    """
    commit, refs = repository.revision, repository.cache / "refs"
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (refs / commit).read_text(encoding="utf-8-sig", errors="replace").strip()
        except OSError:
            snapshots = [path.name for path in (repository.cache / "snapshots").glob("*")]
            commits = [name for name in snapshots if _COMMIT.fullmatch(name)]
            only = repository.revision == "main" and not any(refs.glob("*")) and len(commits) == 1
            commit = commits[0] if only else ""
    if not _COMMIT.fullmatch(commit):
        return None
    with contextlib.suppress(errors.LocalEntryNotFoundError):
        return Path(snapshot_download(repository.id, revision=commit, allow_patterns=WANTED, local_files_only=True))
    return None


def display_name(folder: Path) -> str:
    """What to call a checkpoint folder: its name, or the repository's if it lies in the hub's cache."""
    snapshots, repository = folder.parent.name, folder.parent.parent.name
    in_cache = snapshots == "snapshots" and repository.startswith("models--")
    return repository.rpartition("--")[2] if in_cache else folder.name


def make_plan(repository: Repository) -> Plan:
    """Ask the hub what a repository holds.

    Raises UsageError if there is none, PrerequisiteError offline or without access, LinkError.
    """
    retry = retrying(POLICY, threading.Event(), is_passing)
    with translated(repository):
        try:
            options = {"revision": repository.revision, "files_metadata": True, "timeout": POLICY.timeout_s}
            info: Any = retry(HfApi().model_info, repository.id, **options)
            wanted = (file for file in info.siblings or () if any(Path(file.rfilename).match(kind) for kind in WANTED))
            return Plan(repository, _checked(_COMMIT, info.sha), tuple(map(_remote_file, wanted)))
        except errors.HFValidationError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            said = f"what {constants.ENDPOINT} says of {repository} cannot be understood"
            raise LinkError(f"{said} ({one_line(error)}): try later") from error


def _remote_file(found: Any) -> RemoteFile:
    """What the hub says of a file; ValueError unless its name stays in its folder and its digest is one."""
    name, size_bytes = str(found.rfilename), int(found.size or 0)
    leaves = PurePosixPath(name).is_absolute() or {"..", ""} & set(name.split("/")) or "\\" in name or "\0" in name
    if leaves or size_bytes < 0:
        raise ValueError(f"a file named {name!r} of {size_bytes} bytes")
    return RemoteFile(name, size_bytes, _checked(_DIGEST, found.lfs.sha256 if found.lfs else found.blob_id))


def _checked(pattern: re.Pattern[str], text: Any) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ValueError(f"{text!r} where a digest belongs")
    return text


def is_passing(error: BaseException) -> bool:
    """Whether a failure is worth another try: a connection that broke, or a refusal that is likely to pass."""
    if isinstance(error, errors.HfHubHTTPError):
        return passes(error.response.status_code)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return False
    return isinstance(error, (_TRANSPORT_ERROR, ConnectionError))


@contextlib.contextmanager
def translated(repository: Repository) -> Iterator[None]:
    """The hub's errors as ours, each one line with its remedy."""
    hub = constants.ENDPOINT
    try:
        yield
    except errors.OfflineModeIsEnabled:
        said = f"{repository} is not on this machine, and offline mode is on"
        raise PrerequisiteError(f"{said}: unset HF_HUB_OFFLINE to fetch it") from None
    except errors.GatedRepoError:
        remedy = f"ask for access at {hub}/{repository.id}, then `hf auth login` or set HF_TOKEN"
        raise PrerequisiteError(f"{repository} is gated: {remedy}") from None
    except errors.RevisionNotFoundError:
        said = f"{repository.id} has no revision {repository.revision!r}"
        raise UsageError(f"{said}: give a branch, tag or commit") from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        said = f"there is no repository {repository.id} at {hub}"
        raise UsageError(f"{said}: check the name; if it is private, set HF_TOKEN") from None
    except (_TRANSPORT_ERROR, ConnectionError, errors.LocalEntryNotFoundError) as error:
        said = f"fetching {repository} from {hub} broke off ({one_line(error)})"
        raise LinkError(f"{said}: run the same command again, it goes on from there") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        said, remedy = "cannot write", "check the folder, or set HF_HOME to another"
        if full:
            said, remedy = "no space left for", "free some, or set HF_HOME to a folder on a larger disk"
        reason = f"{said} {repository} in {repository.cache} ({error.strerror or error})"
        raise StoreError(f"{reason}: {remedy}") from error
