"""The folder of downloaded photographs: what is in it and sound, and how a new one gets there (by rename)."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from aiflow_cli.disk import replace_file
from aiflow_cli.errors import ImageError, StoreError
from aiflow_cli.images.imageset import check_image
from aiflow_cli.images.vehicles import is_export, manifest


class Kind(Enum):
    """Which of the two forms of the data set a file is."""

    EXPORT = "416 x 416 export"
    UNRESIZED = "unresized"


def identify(image_id: str, data: bytes, name: str) -> Kind:
    """The kind of a photograph's file. The export is known by SHA-256; anything else must decode, as a JPEG.

    Raises ImageError for a file that is neither: damaged, of another format, or 416 x 416 but not the export's bytes.
    """
    if is_export(image_id, data):
        return Kind.EXPORT
    picture = check_image(data, name)
    if picture.format != "JPEG":
        raise ImageError(f"{name} is {picture.format}, not JPEG")
    row = manifest()[image_id]
    if ".rf." in name or picture.rgb.size == (row.width, row.height):
        raise ImageError(f"{name} has another SHA-256 than the export's file of {image_id}")
    return Kind.UNRESIZED


class PhotoStore:
    """Photographs as `<folder>/<image_id>.jpg`."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if need be; StoreError if that fails."""
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = "give another folder with --output"
            raise StoreError(f"{folder} cannot be made ({error.strerror}): {remedy}") from error

    def kind(self, image_id: str, known: Mapping[str, str]) -> Kind | None:
        """What is stored for that id, checked; None if nothing, or nothing sound.

        `known` gives the SHA-256 of files that were checked when they came, which saves decoding them again.
        """
        path = self._path(image_id)
        try:
            data = path.read_bytes()
            if not is_export(image_id, data) and known.get(image_id) == hashlib.sha256(data).hexdigest():
                return Kind.UNRESIZED
            return identify(image_id, data, path.name)
        except (OSError, ImageError):
            return None

    def save(self, image_id: str, data: bytes) -> None:
        """Store a checked file; StoreError if that fails."""
        write(self._path(image_id), data)

    def _path(self, image_id: str) -> Path:
        return self.folder / f"{image_id}.jpg"


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, as `replace_file` does, or raise StoreError."""
    try:
        replace_file(path, data)
    except OSError as error:
        raise not_written(path, error) from error


def not_written(path: Path, error: OSError) -> StoreError:
    """What to say of a file that could not be written, by what the system said."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "free some space" if full else "check the folder, or give another with --output"
    return StoreError(f"{path} cannot be written ({error.strerror or error}): {remedy}")
