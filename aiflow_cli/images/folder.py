"""A folder of images, or a data set of the `datasets` library on this disk, as a source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiflow_cli.errors import AiflowError, ImageError, UsageError
from aiflow_cli.images.imageset import ImageRecord, ImageSet, build_image_set, check_size, sample, valid_text
from aiflow_cli.models.picture import SUFFIXES
from aiflow_cli.text import one_line

if TYPE_CHECKING:
    from datasets import Dataset

OTHER_PICTURES = re.compile(
    r"\.(arw|avif|cr[23]|dng|eps|exr|hei[cf]|icns|ico|j2k|jp2|jxl|nef|orf|p[bgnp]m|pcx|psd|raf|raw|rw2|svg|tga|tiff?)"
)
"""Suffixes of pictures that nothing here reads: a run says how many it leaves out."""


def open_path(path: Path, count: int | None, seed: int) -> ImageSet:
    """Images of a folder, a folder made by `Dataset.save_to_disk`, a parquet file, or a folder of parquet files.

    Raises UsageError if there is no image in it, ImageError if one that was drawn cannot be read.
    """
    with reading(path):
        if path.is_dir():
            saved = _open_saved(path)
            return _from_folder(path, count, seed) if saved is None else _from_dataset(path, saved, count, seed)
        if path.suffix.lower() != ".parquet":
            raise UsageError(f"{path} is a file: give the folder that holds the images, or a .parquet file")
        return _from_dataset(path, _parquet([path]), count, seed)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """UsageError for what the system does not let read: a folder that may not be listed or entered, or is gone."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}): check its permissions") from error


@contextmanager
def _refusing(what: str, remedy: str) -> Iterator[None]:
    """UsageError, with its reason, for whatever `datasets` and Arrow raise on strange data."""
    try:
        yield
    except AiflowError:
        raise
    except Exception as error:  # they raise many kinds, and on text that is none others again
        raise UsageError(f"{what} ({one_line(error)}): {remedy}") from error


def _from_folder(path: Path, count: int | None, seed: int) -> ImageSet:
    pictures, parquet, notes = _list_folder(path)
    tables = [file for file in parquet if _image_column(_parquet_features(file)) is not None]
    if pictures and tables:
        both = f"{len(pictures)} images and {tables[0].name}"
        raise UsageError(f"{path} holds {both}: name that file, or move either")
    if parquet and not pictures:
        return _from_dataset(path, _parquet(tables or parquet), count, seed)
    if not pictures:
        inner = sorted(valid_text(entry.name) for entry in path.iterdir() if entry.is_dir() and entry.name[0] != ".")
        subfolders = f"name one of its subfolders ({', '.join(inner[:3])})"
        remedy = subfolders if inner else "put some there or name another folder"
        kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
        raise UsageError(f"no image ({kinds}) in {path}: {'; '.join(notes) or remedy}")
    chosen = sample(pictures, count, seed)
    records = (ImageRecord(valid_text(file.name), read_image_file(file)) for file in chosen)
    return build_image_set(str(path), records, count, notes)


def _list_folder(folder: Path) -> tuple[list[Path], list[Path], list[str]]:
    """What lies directly in `folder`: pictures, parquet files, and what a run should say of what it leaves out.

    Hidden files, which some systems strew about (`._a.jpg`), do not count.
    """
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".") and not entry.is_dir())
    named = [(entry, entry.suffix.lower()) for entry in entries]
    pictures = [entry for entry, suffix in named if suffix in SUFFIXES]
    left_out = Counter(sorted(suffix for _, suffix in named if OTHER_PICTURES.fullmatch(suffix))).most_common()
    dead_links, notes = sum(entry.is_symlink() and not entry.exists() for entry in pictures), []
    if left_out:
        notes.append(f"left out: {', '.join(f'{n} {kind}' for kind, n in left_out)}: convert them to JPEG or PNG")
    if dead_links:
        notes.append(f"links that lead nowhere: {dead_links}")
    parquet = [entry for entry, suffix in named if suffix == ".parquet"]
    return [entry for entry in pictures if entry.is_file()], parquet, notes


def read_image_file(file: Path) -> bytes:
    """The file's bytes; ImageError if the system will not give them, or they are more than a request can carry."""
    try:
        check_size(file.stat().st_size, str(file))
        return file.read_bytes()
    except OSError as error:
        raise ImageError(f"{file} cannot be read ({error.strerror}): check its permissions") from error


def _open_saved(folder: Path) -> Dataset | None:
    """The data set that was saved as `folder`, or None if none was. UsageError if it is one with several splits."""
    from datasets import load_from_disk

    if (folder / "dataset_dict.json").is_file():
        splits = ", ".join(str(entry) for entry in sorted(folder.iterdir()) if entry.is_dir())
        raise UsageError(f"{folder} holds several splits: name one of them ({splits})")
    if not ((folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()):
        return None
    with _refusing(f"{folder} cannot be read as a data set", "save it anew"):
        return load_from_disk(str(folder))


def _parquet_features(file: Path) -> Mapping[str, Any]:
    """The columns of a parquet file, without its rows: a table of something else may be larger than the memory."""
    from datasets import Features
    from pyarrow import parquet

    with _refusing(f"{file} cannot be read as parquet", "replace the file"):
        features: Mapping[str, Any] = Features.from_arrow_schema(parquet.read_schema(file))
    return features


def _parquet(files: list[Path]) -> Dataset:
    """The rows of all `files`. UsageError unless their columns are the same: else some rows would have gaps."""
    from datasets import Dataset, concatenate_datasets
    from datasets.table import InMemoryTable
    from pyarrow import parquet

    first = _parquet_features(files[0])
    if others := [file.name for file in files if _parquet_features(file) != first]:
        raise UsageError(f"{files[0]} and {others[0]} have different columns: name one of them")
    parts = []
    for file in files:
        with _refusing(f"{file} cannot be read as parquet", "replace the file"):
            parts.append(Dataset(InMemoryTable(parquet.read_table(file))))
    return concatenate_datasets(parts)


def _from_dataset(path: Path, dataset: Dataset, count: int | None, seed: int) -> ImageSet:
    column = _image_column(dataset.features)
    if column is None:
        names = ", ".join(dataset.column_names)
        raise UsageError(f"{path} has no column `image` or `bytes` that holds image files; its columns are {names}")
    if len(dataset) == 0:
        raise UsageError(f"{path} holds no rows")
    rows = sample(range(len(dataset)), count, seed)
    return build_image_set(str(path), _records(path, dataset, column, rows), count)


def _image_column(features: Mapping[str, Any]) -> str | None:
    """`bytes` or `image`, if it holds image files: elsewhere `bytes` may be a size, and `image` the name of a file."""
    from datasets import Value

    for name in ("bytes", "image"):
        feature = features.get(name, Value("null"))
        if not isinstance(feature, Value) or feature.dtype in ("binary", "large_binary"):
            return name
    return None


def _records(path: Path, dataset: Dataset, column: str, indices: list[int]) -> Iterator[ImageRecord]:
    # An image that is decoded and encoded again is not the file that would be uploaded: take the stored bytes.
    from datasets import Image

    features, width = dataset.features, len(str(len(dataset)))
    label = "class" if "class" in features else "label"
    with _refusing(f"{path} cannot be read as a data set", "save it anew"):
        for name in (name for name, feature in features.items() if isinstance(feature, Image)):
            dataset = dataset.cast_column(name, Image(decode=False))
        needed = [name for name in (column, "image_id", "id", label, "split") if name in features]
        for index, row in zip(indices, dataset.select_columns(needed).select(indices), strict=True):
            image_id = valid_text(str(row.get("image_id") or row.get("id") or f"{index:0{width}d}"))
            data = _stored_bytes(row[column], image_id)
            yield ImageRecord(image_id, data, _text(row, label, features), _text(row, "split", features))


def _text(row: dict[str, Any], column: str, features: Mapping[str, Any]) -> str | None:
    """What a column says, a class by its name; None if there is nothing (classes of -1 are unlabelled rows)."""
    from datasets import ClassLabel

    value, feature = row.get(column), features.get(column)
    if value is None or not isinstance(feature, ClassLabel):
        return None if value is None else str(value)
    return str(feature.int2str(value)) if value >= 0 else None


def _stored_bytes(value: Any, image_id: str) -> bytes:
    if isinstance(value, dict):
        value = value.get("bytes") or (read_image_file(Path(value["path"])) if value.get("path") else None)
    if not isinstance(value, bytes):
        raise ImageError(f"{image_id}: its column holds {type(value).__name__}, not the bytes of an image file")
    check_size(len(value), image_id)
    return value
