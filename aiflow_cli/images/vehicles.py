"""Vehicles-OpenImage: the manifest of its 627 photographs, and the downloaded ones as a source.

The manifest (`vehicles_openimage.csv`, beside this file) describes the 416 x 416 export of Roboflow's
"Vehicles-OpenImages", version 1: id in Open Images, class, the export's split, pixels, bytes and SHA-256 of the
exported JPEG. The same photographs from Open Images' own bucket are unresized (at most 1024 pixels): their hashes are
not in it.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path

from aiflow_cli import environment
from aiflow_cli.errors import ImageError, PrerequisiteError
from aiflow_cli.images.folder import read_image_file, reading
from aiflow_cli.images.imageset import ImageRecord, ImageSet, build_image_set, dataset_of, sample_indices, shortage

NAME = "vehicles-openimage"


@dataclass(frozen=True)
class ManifestRow:
    """One photograph as the 416 x 416 export has it; `split` is the export's (train, valid, test), not Open Images'."""

    image_id: str
    label: str
    split: str
    width: int
    height: int
    n_bytes: int
    sha256: str


@cache
def manifest() -> dict[str, ManifestRow]:
    """The 627 rows by image id, in the order of ids."""
    with (resources.files("aiflow_cli.images") / "vehicles_openimage.csv").open(encoding="utf-8") as file:
        rows = [
            ManifestRow(image_id, label, split, int(width), int(height), int(n_bytes), sha256)
            for image_id, label, split, width, height, n_bytes, sha256 in islice(csv.reader(file), 1, None)
        ]
    return {row.image_id: row for row in rows}


def data_folder() -> Path:
    """Where downloads land and are looked up: in `$AIFLOW_DATA`, or else in `data` under the current folder.

    Raises UsageError if AIFLOW_DATA is no path.
    """
    return (environment.DATA.value() or Path("data")) / NAME


def is_export(image_id: str, data: bytes) -> bool:
    """Whether `data` is, byte for byte, the 416 x 416 export's file of that photograph."""
    row = manifest()[image_id]
    return len(data) == row.n_bytes and hashlib.sha256(data).hexdigest() == row.sha256


def open_vehicles(count: int | None, seed: int, folder: Path | None = None) -> ImageSet:
    """The photographs that are downloaded, or a seeded sample of them.

    Raises PrerequisiteError if there is none, ImageError if one is damaged, UsageError if the folder may not be read.
    """
    folder = folder or data_folder()
    with reading(folder):
        present = [image_id for image_id in manifest() if (folder / f"{image_id}.jpg").is_file()]
    if not present:
        remedy = f"run `aiflow download`, or set AIFLOW_DATA to the folder that holds {NAME}"
        raise PrerequisiteError(f"no photograph in {folder}: {remedy}")
    rows = [manifest()[present[index]] for index in sample_indices(len(present), count, seed)]
    records = (
        ImageRecord(row.image_id, read_image_file(folder / f"{row.image_id}.jpg"), row.label, row.split) for row in rows
    )
    try:
        return build_image_set(NAME, dataset_of(records), _note(len(present), count))
    except ImageError as error:
        raise ImageError(f"{error}; `aiflow download` fetches it again (photographs are in {folder})") from error


def _note(n_present: int, count: int | None) -> str | None:
    if n_present == len(manifest()):
        return shortage(n_present, count)
    return f"{n_present} of the {len(manifest())} photographs are downloaded"
