"""Photographs that are on this disk already: a folder or a zip of the 416 x 416 export, or of `<image_id>.jpg` files.

The export holds each of its 627 photographs twice in one split (`<image_id>_jpg.rf.<hash>.jpg`, two hashes, same
bytes): 1,254 files, of which 627 images come. Files are known by name; whatever else lies between them is passed over.
Nothing is unpacked to where a zip says: a member's folder is not looked at, and a photograph goes where its id belongs.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from aiflow_cli.errors import UsageError
from aiflow_cli.images.folder import reading
from aiflow_cli.images.photostore import PhotoStore, identify

_NAME = re.compile(r"(?P<image_id>[0-9a-f]{16})(_jpg\.rf\.[^./]+)?\.jpe?g", re.IGNORECASE)
_LARGEST_BYTES = 64_000_000


class Candidate(NamedTuple):
    """A file that by its name is one of the photographs."""

    name: str
    read: Callable[[], bytes]


def import_photos(
    source: Path | io.BytesIO, wanted: list[str], store: PhotoStore, on_done: Callable[[str, bool], None]
) -> dict[str, str]:
    """Copy the wanted photographs out of a folder or a zip; why each missing one is missing, by id.

    Raises UsageError if `source` is neither, or holds none of the photographs.
    """
    missing: dict[str, str] = {}
    with _candidates(source) as found:
        if not found:
            files = "the photographs (files named <image_id>.jpg)"
            raise UsageError(f"{_named(source)} holds none of {files}: name another folder or zip")
        for image_id in wanted:
            reason = _import_one(image_id, found.get(image_id, []), store)
            if reason is not None:
                missing[image_id] = reason
            on_done(image_id, reason is None)
    return missing


def _import_one(image_id: str, candidates: list[Candidate], store: PhotoStore) -> str | None:
    reason = "not in the source"
    for candidate in candidates:
        try:
            data = candidate.read()
            identify(image_id, data, candidate.name)
        except Exception as error:  # whatever a damaged or encrypted member raises; its duplicate may be sound
            reason = " ".join(str(error).split()) or type(error).__name__
            continue
        store.save(image_id, data)
        return None
    return reason


def _named(source: Path | io.BytesIO) -> str:
    return str(source) if isinstance(source, Path) else "the archive"


@contextmanager
def _candidates(source: Path | io.BytesIO) -> Iterator[dict[str, list[Candidate]]]:
    """The files that may be photographs, by id; an archive stays open meanwhile."""
    if isinstance(source, Path) and source.is_dir():
        yield _by_image_id(_files(source))
        return
    try:
        archive = zipfile.ZipFile(source)
    except Exception as error:  # a damaged directory of a zip raises many kinds (struct.error, UnicodeDecodeError, ...)
        raise UsageError(f"{_named(source)} is neither a folder nor a zip that can be read ({error})") from error
    with archive:
        yield _by_image_id(_members(archive))


def _files(folder: Path) -> Iterator[Candidate]:
    with reading(folder):
        next(folder.iterdir(), None)  # what may not be listed is passed over below
        yield from (Candidate(file.name, file.read_bytes) for file in sorted(folder.rglob("*")) if file.is_file())


def _members(archive: zipfile.ZipFile) -> Iterator[Candidate]:
    for member in archive.infolist():
        if not member.is_dir() and member.file_size <= _LARGEST_BYTES:
            name = member.filename.replace("\\", "/").rpartition("/")[2]  # some programs write Windows' separator
            yield Candidate(name, partial(archive.read, member))


def _by_image_id(files: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    found: dict[str, list[Candidate]] = {}
    for file in files:
        if match := _NAME.fullmatch(file.name):
            found.setdefault(match["image_id"].lower(), []).append(file)
    return found
