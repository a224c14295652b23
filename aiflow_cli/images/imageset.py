"""What every source of images gives: an `ImageSet` over a `datasets.Dataset`; and the check that an image can be read.

Columns: `image_id`, `bytes` (the encoded file as it will be uploaded), `image` (the same bytes as a `datasets.Image`,
for whoever opens the set with `datasets`), `class` and `split` (None where the source has none); a source may add its
own.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from aiflow_cli.errors import ImageError, UsageError
from aiflow_cli.models.picture import Picture, decode

if TYPE_CHECKING:
    from datasets import Dataset

LARGEST_BYTES = 32_000_000
"""What a request may carry (`wire/messages.py`)."""
_NOT_TEXT = re.compile(r"[\\\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")
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


def build_image_set(name: str, dataset: Dataset, note: str | None = None) -> ImageSet:
    """The set of a finished dataset: every image is decoded once, so that a bad one stops the run before it starts.

    Raises ImageError that names the first unreadable image, UsageError if two images have the same id.
    """
    for image_id, n in Counter(dataset["image_id"]).items():
        if n > 1:
            raise UsageError(f"{name} holds the image_id {image_id} more than once: give each image its own")
    digest, turned = hashlib.sha256(), 0
    for row in dataset.select_columns(["image_id", "bytes"]):
        turned += check_image(row["bytes"], row["image_id"]).turned
        digest.update(row["image_id"].encode() + b"\0" + hashlib.sha256(row["bytes"]).digest())
    images = "1 image" if turned == 1 else f"{turned} images"
    orientations = f"EXIF orientation of {images}: not applied, as in the original code" if turned else None
    return ImageSet(valid_text(name), digest.hexdigest(), dataset, join_notes(note, orientations))


def join_notes(*notes: str | None) -> str | None:
    """Several notes as one line; None if there is nothing to say."""
    return "; ".join(note for note in notes if note) or None


def valid_text(name: str) -> str:
    """A file's name as text that can be written anywhere, on one line; no two names become the same.

    Bytes that are not UTF-8 become `\\xff`, control characters and ends of lines `\\u000a`, and a backslash is doubled.
    """
    return _NOT_TEXT.sub(_written_out, name)


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] == "\\":
        return "\\\\"
    # A byte that is not UTF-8 is handed on by the system as a surrogate of U+DC00 and its value.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def dataset_of(records: Iterable[ImageRecord]) -> Dataset:
    """A dataset with the common columns, in memory; `image` shares its bytes with `bytes`."""
    import pyarrow as pa
    from datasets import Dataset, Features, Image, Value
    from datasets.table import InMemoryTable

    text = Value("string")
    features = Features({"image_id": text, "bytes": Value("binary"), "image": Image(), "class": text, "split": text})
    schema, waiting = features.arrow_schema, iter(records)
    batches = []
    while rows := list(islice(waiting, _ROWS_PER_CHUNK)):
        ids, labels, splits = (
            pa.array([getattr(row, name) for row in rows], pa.string()) for name in ("image_id", "label", "split")
        )
        data = pa.array([row.data for row in rows], pa.binary())
        image = pa.StructArray.from_arrays([data, ids], names=["bytes", "path"])
        batches.append(pa.record_batch([ids, data, image, labels, splits], schema=schema))
    return Dataset(InMemoryTable(pa.Table.from_batches(batches, schema=schema)))


def sample_indices(total: int, count: int | None, seed: int) -> list[int]:
    """Which of `total` images a run takes: all in order, or `count` by lot.

    With one seed, a smaller sample is the beginning of a larger one. A `count` above `total` gives them all. Raises
    UsageError if `count` is below 1.
    """
    if count is None:
        return list(range(total))
    if count < 1:
        raise UsageError(f"{count} images were asked for; give 1 or more")
    return [int(index) for index in np.random.default_rng(seed).permutation(total)[:count]]


def shortage(total: int, count: int | None) -> str | None:
    """The note of a set that has fewer images than were asked for."""
    return f"{count} images were asked for, there are {total}" if count is not None and count > total else None


def check_size(n_bytes: int, name: str) -> None:
    """ImageError, with `name`, if an image file is empty or more than a request can carry."""
    if not n_bytes:
        raise ImageError(f"{name} is empty (0 bytes): replace or remove the file")
    if n_bytes > LARGEST_BYTES:
        raise ImageError(f"{name} is too large ({n_bytes:,} bytes, at most {LARGEST_BYTES:,}): make it smaller")


def check_image(data: bytes, name: str) -> Picture:
    """Decode `data` whole; ImageError, with `name`, if that fails or it is more than a request can carry."""
    check_size(len(data), name)
    return decode(data, name)
