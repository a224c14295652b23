from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiflow_cli.errors import AiflowError
from aiflow_cli.images.attribution import TABLES
from aiflow_cli.images.download import download, download_attributions
from aiflow_cli.images.vehicles import manifest
from tests.images.bucket_server import QUICK, BucketServer, make_image, serve_bucket

IDS = list(manifest())[:6]
HEADER = [
    "ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "AuthorProfileURL", "Author", "Title",
    "OriginalSize", "OriginalMD5", "Thumbnail300KURL", "Rotation",
]  # fmt: skip


def table(split: str, image_ids: list[str]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(HEADER)
    for index in range(400):
        image_id = image_ids[index // 200] if index % 200 == 160 and index // 200 < len(image_ids) else f"{index:016x}"
        title = f'A "title",\nof two lines {index}'
        row = [image_id, split, "https://o", "https://l", "https://by/2.0/", "https://p", f"Zoë {image_id[:4]}", title]
        writer.writerow([*row, "123", "abc==", "", "0.0"])
    return file.getvalue().encode()


@pytest.fixture
def bucket() -> Iterator[BucketServer]:
    with serve_bucket() as server:
        for index, split in enumerate(("train", "validation", "test")):
            server.objects[f"/{TABLES[split]}"] = table(split, IDS[index::3])
        yield server


def test_a_mark_of_utf_8_before_the_tables(bucket: BucketServer, tmp_path: Path) -> None:
    for path, data in bucket.objects.items():
        bucket.objects[path] = codecs.BOM_UTF8 + data
    assert download_attributions(tmp_path, limit=6, policy=QUICK).missing == []
    ours = tmp_path / "attribution.csv"
    ours.write_bytes(codecs.BOM_UTF8 + ours.read_bytes())
    bucket.requests.clear()
    assert download_attributions(tmp_path, limit=6, policy=QUICK).missing == []
    assert not bucket.requests


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "attribution.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("faults", [[], ["drop"], ["drop", "drop", "503", "drop"], ["hang"], ["slow"]])
def test_authors_and_licences(bucket: BucketServer, tmp_path: Path, faults: list[str]) -> None:
    whole = bucket.objects[f"/{TABLES['train']}"]
    bucket.faults[f"/{TABLES['train']}"] = list(faults)
    report = download_attributions(tmp_path, limit=6, policy=QUICK)
    assert (report.wanted, report.missing) == (6, [])
    found = rows(tmp_path)
    assert [row["image_id"] for row in found] == IDS
    assert [row["openimages_split"] for row in found] == ["train", "validation", "test"] * 2
    assert found[0]["author"] == f"Zoë {IDS[0][:4]}"
    assert found[0]["licence"] == "https://by/2.0/"
    assert found[0]["title"] == 'A "title",\nof two lines 160'
    assert len(whole) > 30_000
    assert len(bucket.ranges) == faults.count("drop")


def test_a_server_that_knows_no_ranges_is_read_anew(bucket: BucketServer, tmp_path: Path) -> None:
    bucket.knows_ranges = False
    bucket.faults[f"/{TABLES['train']}"] = ["drop", "drop"]
    report = download_attributions(tmp_path, limit=6, policy=QUICK)
    assert report.missing == []
    assert [row["title"] for row in rows(tmp_path)][::3] == [
        'A "title",\nof two lines 160',
        'A "title",\nof two lines 360',
    ]


def test_rows_of_an_earlier_run_are_kept(bucket: BucketServer, tmp_path: Path) -> None:
    """The first run finds what validation and test hold and loses train's table; the second reads only the rest."""
    bucket.faults[f"/{TABLES['train']}"] = ["404"]
    with pytest.raises(AiflowError, match=r"no attribution of some photographs: .*404"):
        download_attributions(tmp_path, limit=6, policy=QUICK)
    assert [row["openimages_split"] for row in rows(tmp_path)] == ["validation", "test"] * 2
    written = rows(tmp_path)
    assert download_attributions(tmp_path, limit=6, policy=QUICK).missing == []
    assert [row for row in rows(tmp_path) if row["openimages_split"] != "train"] == written

    bucket.requests.clear()
    assert download_attributions(tmp_path, limit=6, policy=QUICK).missing == []
    assert not bucket.requests
    assert download_attributions(tmp_path, limit=6, force=True, policy=QUICK).missing == []
    assert bucket.requests.total() == 3


def test_a_page_instead_of_a_table(bucket: BucketServer, tmp_path: Path) -> None:
    bucket.faults[f"/{TABLES['validation']}"] = ["wrong"]
    with pytest.raises(AiflowError, match="no table of images"):
        download_attributions(tmp_path, limit=6, policy=QUICK)


def test_only_the_tables_that_are_needed_are_read(bucket: BucketServer, tmp_path: Path) -> None:
    bucket.objects |= {f"/validation/{image_id}.jpg": make_image(1) for image_id in IDS[1::3]}
    bucket.objects |= {f"/test/{image_id}.jpg": make_image(2) for image_id in (IDS[0], *IDS[2::3])}
    download("openimages", tmp_path, limit=3, policy=QUICK)
    bucket.requests.clear()
    report = download_attributions(tmp_path, limit=3, policy=QUICK)
    assert set(bucket.requests) == {f"/{TABLES['validation']}", f"/{TABLES['test']}"}
    assert report.missing == [IDS[0]]


@pytest.mark.parametrize("faults", [["404"], ["503"] * 9, ["hang"] * 9])
def test_a_table_that_does_not_come(bucket: BucketServer, tmp_path: Path, faults: list[str]) -> None:
    bucket.faults[f"/{TABLES['validation']}"] = faults
    with pytest.raises(AiflowError, match=r"no attribution of some .* try again later"):
        download_attributions(tmp_path, limit=6, policy=QUICK)
    assert not (tmp_path / "attribution.csv").exists()
