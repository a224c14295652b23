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
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from aiflow_cli import environment
from aiflow_cli.images.fetch import Fetcher, FetchError
from aiflow_cli.images.photostore import write

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
    fetcher: Fetcher, wanted: Collection[str], splits: Collection[str], progress: Callable[[str, int, int], None]
) -> Iterator[dict[str, str]]:
    """A row of `COLUMNS` and `openimages_split` for each wanted id that the tables of `splits` hold, as it is found.

    `progress` is told what is read, how much, and 0. Raises FetchError if a table cannot be read to its end.
    """
    url, left = environment.METADATA_URL.value() or METADATA_URL, set(wanted)
    for split, table in TABLES.items():
        if split not in splits or not left:
            continue
        with closing(_table_rows(fetcher, f"{url}/{table}", partial(progress, f"table of {split}, MB"))) as rows:
            for row in rows:
                if row["ImageID"] in left:
                    left.remove(row["ImageID"])
                    yield {ours: row.get(theirs) or "" for ours, theirs in COLUMNS.items()} | {SPLIT: split}
                    if not left:
                        return


def _table_rows(
    fetcher: Fetcher, url: str, on_megabytes: Callable[[int, int], None]
) -> Generator[dict[str, str], None, None]:
    try:
        with closing(fetcher.stream(url)) as pieces:
            table = csv.DictReader(_lines(pieces, on_megabytes))
            if "ImageID" not in (table.fieldnames or ()):
                raise FetchError("no table of images")
            yield from table
    except csv.Error as error:
        raise FetchError(f"{url} is damaged ({error})") from error
    except FetchError as error:
        raise FetchError(f"{url}: {error}") from error


def _lines(pieces: Iterable[bytes], on_megabytes: Callable[[int, int], None]) -> Iterator[str]:
    """The lines of a large text, ends kept; the last may have none. A mark of UTF-8 at the start is no part of it."""
    decoder, rest, n_bytes = codecs.getincrementaldecoder("utf-8-sig")("replace"), "", 0
    for piece in pieces:
        n_bytes += len(piece)
        on_megabytes(n_bytes // 1_000_000, 0)
        *lines, rest = (rest + decoder.decode(piece)).split("\n")
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
    write(file, out.getvalue().encode())
