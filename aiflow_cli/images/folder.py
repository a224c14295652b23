"""A folder of images, or a data set of the `datasets` library on this disk, as a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiflow_cli.errors import ImageError, UsageError
from aiflow_cli.images.imageset import (
    ImageRecord,
    ImageSet,
    build_image_set,
    check_size,
    dataset_of,
    sample_indices,
    shortage,
)

if TYPE_CHECKING:
    from datasets import Dataset

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def open_path(path: Path, count: int | None, seed: int) -> ImageSet:
    """Images of a folder, a folder made by `Dataset.save_to_disk`, a parquet file, or a folder of parquet files.

    Raises UsageError if there is no image in it, ImageError if one that was drawn cannot be read.
    """
    if path.is_file() and path.suffix != ".parquet":
        raise UsageError(f"{path} is a file: give the folder that holds the images, or a .parquet file")
    if not path.exists():
        raise UsageError(f"{path} does not exist: give a folder of images, `scenes` or `vehicles-openimage`")
    dataset = open_dataset(path)
    if dataset is not None:
        return _from_dataset(path, dataset, count, seed)
    files = image_files(path)
    if not files:
        raise UsageError(_nothing_in(path))
    chosen = [files[index] for index in sample_indices(len(files), count, seed)]
    records = (ImageRecord(file.name, read_image_file(file)) for file in chosen)
    return build_image_set(str(path), dataset_of(records), shortage(len(files), count))


def image_files(folder: Path) -> list[Path]:
    """Image files directly in `folder`, by name; hidden files and subfolders are passed over.

    Raises UsageError if the folder cannot be listed.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder} cannot be listed ({error.strerror}): check its permissions") from error
    found = (file for file in entries if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    return [file for file in found if file.is_file()]


def read_image_file(file: Path) -> bytes:
    """The file's bytes; ImageError if the system will not give them, or they are more than a request can carry."""
    try:
        check_size(file.stat().st_size, str(file))
        return file.read_bytes()
    except OSError as error:
        raise ImageError(f"{file} cannot be read ({error.strerror}): check its permissions") from error


def _nothing_in(folder: Path) -> str:
    kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
    inner = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    remedy = (
        f"name one of its subfolders ({', '.join(inner[:3])})" if inner else "put some there or name another folder"
    )
    return f"no image ({kinds}) in {folder}: {remedy}"


def open_dataset(path: Path) -> Dataset | None:
    """The data set stored at `path`, or None if `path` is not one. UsageError if it is one with several splits."""
    from datasets import Dataset, load_from_disk
    from datasets.table import InMemoryTable

    if (path / "dataset_dict.json").is_file():
        splits = ", ".join(str(path / entry.name) for entry in sorted(path.iterdir()) if entry.is_dir())
        raise UsageError(f"{path} holds several splits: name one of them ({splits})")
    if (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
        try:
            return load_from_disk(str(path))
        except Exception as error:  # whatever `datasets` and Arrow raise on a damaged one
            raise UsageError(f"{path} cannot be read as a data set ({_first_line(error)}): save it anew") from error
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    if not files:
        return None
    return Dataset(InMemoryTable(_read_parquet(files)))


def _read_parquet(files: list[Path]) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return pa.concat_tables([parquet.read_table(file) for file in files])
    except (pa.ArrowException, OSError) as error:
        where = files[0] if len(files) == 1 else f"{files[0]} to {files[-1].name}"
        raise UsageError(f"{where} cannot be read as parquet ({_first_line(error)}): replace the file") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _from_dataset(path: Path, dataset: Dataset, count: int | None, seed: int) -> ImageSet:
    column = _image_column(dataset.features)
    if column is None:
        raise UsageError(f"{path} has no column `image` or `bytes`; its columns are {', '.join(dataset.column_names)}")
    if len(dataset) == 0:
        raise UsageError(f"{path} holds no rows")
    indices = sample_indices(len(dataset), count, seed)
    return build_image_set(str(path), dataset_of(_records(dataset, column, indices)), shortage(len(dataset), count))


def _image_column(features: Mapping[str, Any]) -> str | None:
    """`bytes` if it holds bytes (elsewhere it may be a size), else `image` if there is one."""
    if getattr(features.get("bytes"), "dtype", None) in ("binary", "large_binary"):
        return "bytes"
    return "image" if "image" in features else None


def _records(dataset: Dataset, column: str, indices: list[int]) -> Iterator[ImageRecord]:
    # An image that is decoded and encoded again is not the file that would be uploaded: take the stored bytes.
    from datasets import Image

    features = dataset.features
    for name in [name for name, feature in features.items() if isinstance(feature, Image)]:
        dataset = dataset.cast_column(name, Image(decode=False))
    label = "class" if "class" in features else "label"
    width = len(str(len(dataset)))
    for index, row in zip(indices, dataset.select(indices), strict=True):
        image_id = str(row.get("image_id") or row.get("id") or f"{index:0{width}d}")
        data = _stored_bytes(row[column], image_id)
        yield ImageRecord(image_id, data, _text(row, label, features), _text(row, "split", features))


def _text(row: dict[str, Any], column: str, features: Mapping[str, Any]) -> str | None:
    """What a column says, a class by its name; None if there is nothing (classes of -1 are unlabelled rows)."""
    from datasets import ClassLabel

    value = row.get(column)
    if not isinstance(features.get(column), ClassLabel):
        return None if value is None else str(value)
    return None if value is None or value < 0 else str(features[column].int2str(value))


def _stored_bytes(value: Any, image_id: str) -> bytes:
    if isinstance(value, dict):
        value = value.get("bytes") or (read_image_file(Path(value["path"])) if value.get("path") else None)
    if not isinstance(value, bytes):
        raise ImageError(f"{image_id}: its column holds {type(value).__name__}, not the bytes of an image file")
    return value
