"""Author and licence of each photograph, from the image tables that Open Images publishes (CSV, the largest 638 MB).

The tables are streamed and only the wanted rows are kept; a broken connection goes on from the last byte. The tables of
validation and test are small, so they come first, and none is read once every photograph is found. Rows that an earlier
run has found are kept, and not looked for again.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from aiflow_cli import environment
from aiflow_cli.images.fetch import Fetcher, FetchError, Progress
from aiflow_cli.images.vehicles import save

METADATA_URL = "https://storage.googleapis.com/openimages"
TABLES = {
    "validation": "2018_04/validation/validation-images-with-rotation.csv",
    "test": "2018_04/test/test-images-with-rotation.csv",
    "train": "2018_04/train/train-images-boxable-with-rotation.csv",
}
COLUMNS = {
    "image_id": "ImageID",
    "author": "Author",
    "licence": "License",
    "title": "Title",
    "author_url": "AuthorProfileURL",
    "landing_url": "OriginalLandingURL",
    "original_url": "OriginalURL",
}
"""Our column to theirs; `SPLIT` is added."""
SPLIT = "openimages_split"


def find_attributions(
    fetcher: Fetcher, wanted: Collection[str], splits: Collection[str], progress: Progress
) -> Iterator[dict[str, str]]:
    """A row of `COLUMNS` and `openimages_split` for each wanted id that the tables of `splits` hold, as it is found.

    Raises FetchError if a table cannot be read to its end.
    """
    base, left = environment.METADATA_URL.value() or METADATA_URL, set(wanted)
    for split in (split for split in TABLES if split in splits):
        url = f"{base}/{TABLES[split]}"
        try:
            with closing(fetcher.stream(url, f"table of {split}", progress)) as pieces:
                table = csv.DictReader(_lines(pieces))
                if "ImageID" not in (table.fieldnames or ()):
                    raise FetchError("no table of images")
                while left and (row := next(table, None)):
                    if row["ImageID"] in left:
                        left.remove(row["ImageID"])
                        yield {ours: row.get(theirs) or "" for ours, theirs in COLUMNS.items()} | {SPLIT: split}
        except (FetchError, csv.Error) as error:
            raise FetchError(f"{url}: {error}") from error
        if not left:
            return


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """The lines of a large text, ends kept; the last may have none. A mark of UTF-8 at the start is no part of it."""
    rest = ""
    for text in codecs.iterdecode(pieces, "utf-8-sig", "replace"):
        *lines, rest = (rest + text).split("\n")
        yield from (line + "\n" for line in lines)
    if rest:
        yield rest


def read_attributions(file: Path) -> dict[str, dict[str, str]]:
    """The rows that an earlier run has written, by id; none if there is no such table."""
    with suppress(OSError, csv.Error), file.open(newline="", encoding="utf-8-sig", errors="replace") as text:
        table = csv.DictReader(text)
        if table.fieldnames == [*COLUMNS, SPLIT]:
            return {row["image_id"]: row for row in table}
    return {}


def write_attributions(file: Path, rows: Iterable[dict[str, str]]) -> None:
    """Write the table; StoreError if that fails."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, [*COLUMNS, SPLIT], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    save(file, out.getvalue().encode())
