"""Author and licence of each photograph, from the image tables that Open Images publishes (CSV, the largest 638 MB).

The tables are streamed and only the wanted rows are kept; a broken connection goes on from the last byte. The tables of
validation and test are small, so they come first, and none is read once every photograph is found. Rows that an earlier
run has found are kept, and not looked for again.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from aiflow_cli.disk import replace_file
from aiflow_cli.images.fetch import Fetcher, FetchError
from aiflow_cli.images.photostore import not_written

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
    fetcher: Fetcher, url: str, wanted: Collection[str], splits: Collection[str], on_bytes: Callable[[str, int], None]
) -> Iterator[dict[str, str]]:
    """A row of `COLUMNS` and `openimages_split` for each wanted id that the tables of `splits` hold, as it is found.

    `on_bytes(split, n)` reports the bytes read of a table. Raises FetchError if one cannot be read to its end.
    """
    left = set(wanted)
    for split, table in TABLES.items():
        if split not in splits or not left:
            continue
        with closing(_table_rows(fetcher, f"{url}/{table}", partial(on_bytes, split))) as rows:
            for row in rows:
                if row["ImageID"] in left:
                    left.remove(row["ImageID"])
                    yield {ours: row.get(theirs) or "" for ours, theirs in COLUMNS.items()} | {SPLIT: split}
                    if not left:
                        return


def _table_rows(fetcher: Fetcher, url: str, on_bytes: Callable[[int], None]) -> Generator[dict[str, str], None, None]:
    with closing(_lines(fetcher, url, on_bytes)) as lines:
        try:
            table = csv.DictReader(lines)
            if "ImageID" not in (table.fieldnames or ()):
                raise FetchError(f"{url} gave something that is no table of images")
            yield from table
        except csv.Error as error:
            raise FetchError(f"{url} is damaged ({error})") from error


def _lines(fetcher: Fetcher, url: str, on_bytes: Callable[[int], None]) -> Generator[str, None, None]:
    """The lines of a large text, ends kept; the last may have none. A mark of UTF-8 at the start is no part of it."""
    rest, n_bytes = b"", 0
    try:
        with closing(fetcher.stream(url)) as pieces:
            for piece in pieces:
                piece = piece.removeprefix(codecs.BOM_UTF8) if not n_bytes else piece
                n_bytes += len(piece)
                on_bytes(n_bytes)
                *lines, rest = (rest + piece).split(b"\n")
                yield from (line.decode(errors="replace") + "\n" for line in lines)
    except FetchError as error:
        raise FetchError(f"{url}: {error}") from error
    if rest:
        yield rest.decode(errors="replace")


def read_attributions(file: Path) -> dict[str, dict[str, str]]:
    """The rows that an earlier run has written, by id; none if there is no such table."""
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="replace") as text:
            table = csv.DictReader(text)
            if table.fieldnames != [*COLUMNS, SPLIT]:
                return {}
            return {row["image_id"]: row for row in table}
    except (OSError, csv.Error):
        return {}


def write_attributions(file: Path, rows: Iterable[dict[str, str]]) -> None:
    """Write the table; StoreError if that fails."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, [*COLUMNS, SPLIT], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    try:
        replace_file(file, out.getvalue().encode())
    except OSError as error:
        raise not_written(file, error) from error
