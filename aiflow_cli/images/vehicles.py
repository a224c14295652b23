"""Vehicles-OpenImage: the manifest of its 627 photographs, the folder of downloaded ones, and they as a source.

The manifest (`vehicles_openimage.csv`, beside this file) describes the 416 x 416 export of Roboflow's
"Vehicles-OpenImages", version 1: id in Open Images, class, the export's split, pixels, bytes and SHA-256 of the
exported JPEG. The same photographs from Open Images' own bucket are unresized (at most 1024 pixels): their hashes are
not in it.
"""

from __future__ import annotations

import csv
import errno
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from importlib import resources
from pathlib import Path

import msgspec

from aiflow_cli import environment
from aiflow_cli.disk import replace_file
from aiflow_cli.errors import ImageError, PrerequisiteError, StoreError
from aiflow_cli.images.folder import read_image_file, reading
from aiflow_cli.images.imageset import ImageRecord, ImageSet, build_image_set, check_image, sample

NAME = "vehicles-openimage"


class ManifestRow(msgspec.Struct, frozen=True):
    """One photograph as the 416 x 416 export has it; `split` is the export's (train, valid, test), not Open Images'."""

    image_id: str
    label: str = msgspec.field(name="class")
    split: str
    width: int
    height: int
    n_bytes: int = msgspec.field(name="bytes")
    sha256: str


class Kind(StrEnum):
    """Which of the two forms of the data set a file is."""

    EXPORT = "416 x 416 export"
    UNRESIZED = "unresized"


@cache
def manifest() -> dict[str, ManifestRow]:
    """The 627 rows by image id, in the order of ids."""
    with (resources.files("aiflow_cli.images") / "vehicles_openimage.csv").open(encoding="utf-8") as file:
        rows = msgspec.convert(list(csv.DictReader(file)), list[ManifestRow], strict=False)
    return {row.image_id: row for row in rows}


def data_folder() -> Path:
    """Where downloads land and are looked up: in `$AIFLOW_DATA`, or else in `data` under the current folder.

    Raises UsageError if AIFLOW_DATA is no path.
    """
    return (environment.DATA.value() or Path("data")) / NAME


def open_vehicles(count: int | None, seed: int) -> ImageSet:
    """The photographs that are downloaded, or a seeded sample of them.

    Raises PrerequisiteError if there is none, ImageError if one is damaged, UsageError if the folder may not be read.
    """
    folder = data_folder()
    with reading(folder):
        present = [row for row in manifest().values() if (folder / f"{row.image_id}.jpg").is_file()]
    if not present:
        remedy = f"run `aiflow download`, or set AIFLOW_DATA to the folder that holds {NAME}"
        raise PrerequisiteError(f"no photograph in {folder}: {remedy}")
    whole = len(present) == len(manifest())
    notes = [] if whole else [f"{len(present)} of the {len(manifest())} photographs are downloaded"]
    records = (
        ImageRecord(row.image_id, read_image_file(folder / f"{row.image_id}.jpg"), row.label, row.split)
        for row in sample(present, count, seed)
    )
    try:
        return build_image_set(NAME, records, count if whole else None, notes)
    except ImageError as error:
        raise ImageError(f"{error}; `aiflow download` fetches it again (photographs are in {folder})") from error


def identify(image_id: str, data: bytes, name: str, known_sha256: str | None = None) -> Kind:
    """The kind of a photograph's file. The export is known by SHA-256; anything else must decode, as a JPEG.

    `known_sha256` is that of an unresized file that was checked when it came, which saves decoding it again. Raises
    ImageError for a file that is neither: damaged, of another format, or 416 x 416 but not the export's bytes.
    """
    row, sha256 = manifest()[image_id], hashlib.sha256(data).hexdigest()
    if sha256 == row.sha256:
        return Kind.EXPORT
    if sha256 == known_sha256:
        return Kind.UNRESIZED
    picture = check_image(data, name)
    if picture.format != "JPEG":
        raise ImageError(f"{name} is {picture.format}, not JPEG")
    if ".rf." in name or picture.rgb.size == (row.width, row.height):
        raise ImageError(f"{name} has another SHA-256 than the export's file of {image_id}")
    return Kind.UNRESIZED


def stored_kind(folder: Path, image_id: str, known: Mapping[str, str]) -> Kind | None:
    """What is stored for that id, checked; None if nothing, or nothing sound. `known`: SHA-256 of checked files."""
    path = folder / f"{image_id}.jpg"
    try:
        return identify(image_id, path.read_bytes(), path.name, known.get(image_id))
    except (OSError, ImageError):
        return None


def save(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; StoreError if that fails."""
    with storing(path):
        replace_file(path, data)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """StoreError, with what to do, if the system does not let `path` be written."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "free some space" if full else "check the folder, or give another with --output"
        raise StoreError(f"{path} cannot be written ({error.strerror or error}): {remedy}") from error
