"""What every source of images gives: an `ImageSet` over a `datasets.Dataset`; and the check that an image can be read.

Columns: `image_id`, `bytes` (the encoded file as it will be uploaded), `image` (the same bytes as a `datasets.Image`,
for whoever opens the set with `datasets`), `class` and `split` (None where the source has none); a source may add its
own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from aiflow_cli.errors import ImageError, UsageError
from aiflow_cli.models.picture import Picture, decode

if TYPE_CHECKING:
    from datasets import Dataset

Item = TypeVar("Item")

LARGEST_BYTES = 32_000_000
"""What a request may carry (`wire/messages.py`)."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ROWS_PER_CHUNK = 64
"""Arrow's binary column holds 2 GB a chunk; 64 images of up to 32 MB each stay just below (2.05 GB < 2^31 bytes)."""


@dataclass(frozen=True)
class ImageRecord:
    """One image: its name in the results, and the bytes of its JPEG, PNG, WebP, BMP or GIF file."""

    image_id: str
    data: bytes
    label: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class ImageSet:
    """Images of one run, in the order in which they are used. `fingerprint` covers ids and contents, in that order.

    `note` is one line that a run should show (fewer images than were asked for, files that were left out, orientations
    that are not applied), or None.
    """

    name: str
    fingerprint: str
    dataset: Dataset
    note: str | None = None

    def __len__(self) -> int:
        """How many images."""
        return len(self.dataset)

    def __iter__(self) -> Iterator[ImageRecord]:
        """Each image once, in order."""
        for row in self.dataset.select_columns(["image_id", "bytes", "class", "split"]):
            yield ImageRecord(row["image_id"], row["bytes"], row["class"], row["split"])


def build_image_set(
    name: str, records: Iterable[ImageRecord], count: int | None = None, notes: Sequence[str] = ()
) -> ImageSet:
    """The set of `records`: every image is decoded once, so that a bad one stops the run before it starts.

    If there are fewer than `count`, its note says so, before `notes`. Raises ImageError that names the first unreadable
    image, UsageError if two images have the same id.
    """
    dataset = _dataset_of(records)
    digest, turned, seen = hashlib.sha256(), 0, set[str]()
    for row in dataset.select_columns(["image_id", "bytes"]):
        image_id, data = row["image_id"], row["bytes"]
        if image_id in seen:
            raise UsageError(f"{name} holds the image_id {image_id} more than once: give each image its own")
        seen.add(image_id)
        turned += check_image(data, image_id).turned
        digest.update(image_id.encode() + b"\0" + hashlib.sha256(data).digest())
    few = [f"{count} images were asked for, there are {len(seen)}"] if count is not None and count > len(seen) else []
    images = "1 image" if turned == 1 else f"{turned} images"
    orientations = [f"EXIF orientation of {images}: not applied, as in the original code"] if turned else []
    return ImageSet(valid_text(name), digest.hexdigest(), dataset, "; ".join([*few, *notes, *orientations]) or None)


def valid_text(name: str) -> str:
    """A file's name as text that can be written anywhere, on one line; no two names become the same.

    Bytes that are not UTF-8 become `\\xff`, control characters and ends of lines `\\u000a`, and a backslash is doubled.
    """
    text = name.replace("\\", "\\\\").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _dataset_of(records: Iterable[ImageRecord]) -> Dataset:
    """A dataset with the common columns, in memory; `image` shares its bytes with `bytes`."""
    import pyarrow as pa
    from datasets import Dataset, Features, Image, Value
    from datasets.table import InMemoryTable

    text, binary = Value("string"), Value("binary")
    features = Features({"image_id": text, "bytes": binary, "image": Image(), "class": text, "split": text})
    schema, waiting, batches = features.arrow_schema, iter(records), []
    while rows := [(row.image_id, row.data, row.label, row.split) for row in islice(waiting, _ROWS_PER_CHUNK)]:
        kinds = (pa.string(), pa.binary(), pa.string(), pa.string())
        ids, data, labels, splits = map(pa.array, zip(*rows, strict=True), kinds)
        image = pa.StructArray.from_arrays([data, ids], names=["bytes", "path"])
        batches.append(pa.record_batch([ids, data, image, labels, splits], schema=schema))
    return Dataset(InMemoryTable(pa.Table.from_batches(batches, schema=schema)))


def sample(items: Sequence[Item], count: int | None, seed: int) -> list[Item]:
    """What a run takes: all in order, or `count` by lot (all of them if there are fewer).

    With one seed, a smaller sample is the beginning of a larger one.
    """
    if count is None:
        return list(items)
    return [items[index] for index in np.random.default_rng(seed).permutation(len(items))[:count].tolist()]


def check_size(n_bytes: int, name: str) -> None:
    """ImageError, with `name`, if an image file is more than a request can carry."""
    if n_bytes > LARGEST_BYTES:
        raise ImageError(f"{name} is too large ({n_bytes:,} bytes, at most {LARGEST_BYTES:,}): make it smaller")


def check_image(data: bytes, name: str) -> Picture:
    """Decode `data` whole; ImageError, with `name`, if that fails or it is more than a request can carry."""
    check_size(len(data), name)
    return decode(data, name)
