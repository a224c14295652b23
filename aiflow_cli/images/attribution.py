"""Author and licence of each photograph, from the image tables that Open Images publishes (CSV, the largest 638 MB).

The tables are streamed and only the wanted rows are kept; a broken connection goes on from the last byte. The tables of
validation and test are small, so they come first, and none is read once every photograph is found.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path

from aiflow_cli.errors import StoreError
from aiflow_cli.images.fetch import Fetcher, FetchError, describe

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
"""Our column to theirs; `openimages_split` is added."""


def find_attributions(
    fetcher: Fetcher, url: str, wanted: Collection[str], splits: Collection[str], on_bytes: Callable[[str, int], None]
) -> dict[str, dict[str, str]]:
    """One row of `COLUMNS` and `openimages_split` for each wanted id that the tables of `splits` hold, by id.

    `on_bytes(split, n)` reports the bytes read of a table. Raises FetchError if one cannot be read to its end.
    """
    found: dict[str, dict[str, str]] = {}
    for split in [split for split in TABLES if split in splits]:
        progress = partial(on_bytes, split)
        with closing(stream_lines(fetcher, f"{url}/{TABLES[split]}", progress)) as lines:
            for row in csv.DictReader(lines):
                if row.get("ImageID") in wanted:
                    found[row["ImageID"]] = {ours: row.get(theirs) or "" for ours, theirs in COLUMNS.items()}
                    found[row["ImageID"]]["openimages_split"] = split
                    if len(found) == len(wanted):
                        return found
    return found


def stream_lines(fetcher: Fetcher, url: str, on_bytes: Callable[[int], None]) -> Generator[str, None, None]:
    """The lines of a large text at `url`, line ends kept. FetchError on a refusal, or when no try brings a new byte."""
    import httpx

    rest, offset, fruitless = b"", 0, 0
    while True:
        before = offset
        try:
            with fetcher.open(url, offset) as reply:
                if reply.status_code >= 500:
                    raise ConnectionError(f"HTTP {reply.status_code}")
                if reply.status_code not in (200, 206):
                    raise FetchError(f"{url} answered HTTP {reply.status_code}")
                # A server that does not know ranges begins anew.
                skip = offset if reply.status_code == 200 else 0
                for chunk in reply.iter_bytes():
                    fresh, skip = chunk[skip:], max(0, skip - len(chunk))
                    offset += len(fresh)
                    on_bytes(offset)
                    *lines, rest = (rest + fresh).split(b"\n")
                    yield from (line.decode(errors="replace") + "\n" for line in lines)
            if rest:
                yield rest.decode(errors="replace")
            return
        except (httpx.RequestError, ConnectionError) as error:
            fruitless = 0 if offset > before else fruitless + 1
            if fruitless >= fetcher.policy.attempts or fetcher.stop.wait(fetcher.policy.first_pause_s * 2**fruitless):
                raise FetchError(f"{url} broke off ({describe(error)})") from error


def write_attributions(file: Path, rows: Iterable[dict[str, str]]) -> None:
    """Write the table; StoreError if that fails."""
    part = file.with_name(f".{file.name}.part")
    try:
        with part.open("w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, [*COLUMNS, "openimages_split"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"{file} cannot be written ({error.strerror}): free some space") from error
