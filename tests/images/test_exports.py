from __future__ import annotations

import hashlib
import io
import json
import random
import zipfile
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from aiflow_cli.errors import AiflowError, PrerequisiteError, UsageError
from aiflow_cli.images.download import DownloadReport, download
from aiflow_cli.images.exports import ROBOFLOW_EXPORT, fetch_roboflow, import_photos
from aiflow_cli.images.fetch import Fetcher
from aiflow_cli.images.source import open_images
from aiflow_cli.images.vehicles import manifest
from tests.images.bucket_server import QUICK, BucketServer, make_image, real_photos, serve_bucket
from tests.images.exported import IDS, export, packed


def take(source: Path, folder: Path, limit: int | None = None) -> DownloadReport:
    return download(str(source), folder, limit=limit, policy=QUICK)


def test_folder_of_the_real_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = take(real_photos(), tmp_path / "vehicles-openimage")
    assert (report.present, report.wanted, report.missing) == (627, 627, {})
    assert report.kinds == {"416 x 416 export": 627}
    monkeypatch.setenv("AIFLOW_DATA", str(tmp_path))
    images = open_images("vehicles-openimage", None, 0)
    assert (len(images), images.note) == (627, None)


def test_export_with_its_duplicates(tmp_path: Path) -> None:
    source = export(tmp_path / "export")
    assert len(list(source.rglob("*.jpg"))) == 1254
    report = take(packed(source, tmp_path / "export.zip"), tmp_path / "out")
    assert (report.present, report.kinds) == (627, {"416 x 416 export": 627})
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 627
    for image_id, row in manifest().items():
        assert hashlib.sha256((tmp_path / "out" / f"{image_id}.jpg").read_bytes()).hexdigest() == row.sha256


def test_a_damaged_duplicate_is_replaced_by_its_twin(tmp_path: Path) -> None:
    source = export(tmp_path / "export", 4)
    twins = [sorted(source.rglob(f"{image_id}*")) for image_id in IDS[:4]]
    for file in (twins[0][0], twins[1][0], twins[1][1], twins[2][0]):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 0xFF
        file.unlink()
        file.write_bytes(data)
    report = take(source, tmp_path / "out", 5)
    assert report.present == 3
    assert "another SHA-256" in report.missing[IDS[1]] or "cannot be read" in report.missing[IDS[1]]
    assert report.missing[IDS[4]] == "not in the source"


def test_unresized_photographs_from_a_folder(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / f"{IDS[0]}.jpg").write_bytes(make_image(0, 300, 200))
    (source / f"{IDS[1]}.jpg").write_bytes(make_image(1, 416, 416))
    (source / f"{IDS[2]}.jpg").write_bytes(make_image(2, form="PNG"))
    (source / "other.jpg").write_bytes(make_image(3))
    report = take(source, tmp_path / "out", 3)
    assert report.kinds == {"unresized": 1}
    assert "another SHA-256" in report.missing[IDS[1]]
    assert "PNG, not JPEG" in report.missing[IDS[2]]


def test_sources_that_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds none"):
        take(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "bad.zip").write_bytes(b"PK no")
    with pytest.raises(UsageError, match="neither a folder nor a zip"):
        take(tmp_path / "bad.zip", tmp_path / "out")


def test_a_zip_made_on_windows(tmp_path: Path) -> None:
    """With backslashes; and with members that would leave the folder, if anything were unpacked to where they say."""
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr(f"export\\train\\{IDS[0]}.jpg", make_image(0))
        archive.writestr(f"../../{IDS[1]}.jpg", make_image(1))
        archive.writestr(f"C:\\..\\{IDS[2]}.jpg", make_image(2))
        archive.writestr(f"__MACOSX/export/._{IDS[3]}.jpg", b"\0\5\x16\7")
    report = take(tmp_path / "export.zip", tmp_path / "a" / "out", 4)
    assert report.missing == {IDS[3]: "not in the source"}
    assert {file.stem for file in tmp_path.rglob("*.jpg")} == set(IDS[:3])
    assert {file.parent for file in tmp_path.rglob("*.jpg")} == {tmp_path / "a" / "out"}


def test_damaged_zips(tmp_path: Path) -> None:
    """What is whole comes, the rest is missing with a reason, and a zip that is none is wrong use."""
    buffer, chance = io.BytesIO(), random.Random(5)
    with zipfile.ZipFile(buffer, "w") as archive:
        for index, kind in enumerate((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)):
            archive.writestr(f"{IDS[index]}.jpg", make_image(index), kind)
    whole = buffer.getvalue()
    reasons: Counter[str] = Counter()
    for _ in range(400):
        damaged = bytearray(whole)
        for at in chance.choices(range(len(whole) - 400, len(whole)), k=2) + chance.choices(range(len(whole)), k=2):
            damaged[at] = chance.randrange(256)
        try:
            missing = import_photos(io.BytesIO(damaged), IDS[:4], tmp_path, lambda: None)
        except UsageError as error:
            missing = {"": str(error)}
        reasons.update(missing.values())
    assert len(reasons) > 20
    assert not [reason for reason in reasons if "\n" in reason or not reason]


@pytest.fixture
def bucket() -> Iterator[BucketServer]:
    with serve_bucket() as server:
        yield server


def play_roboflow(bucket: BucketServer, tmp_path: Path, not_ready: int = 2) -> list[str]:
    """Answers as Roboflow does: 202 while it packs the export, then a link to the zip. Gives the queries it got."""
    queries: list[str] = []
    archive = packed(export(tmp_path / "export", 6), tmp_path / "export.zip").read_bytes()

    def answer(handler: BaseHTTPRequestHandler) -> bool:
        path, _, query = handler.path.partition("?")
        if path != f"/{ROBOFLOW_EXPORT}":
            return False
        queries.append(query)
        ready = len(queries) > not_ready
        body = json.dumps({"export": {"link": f"{bucket.url}/zip"}} if ready else {"progress": 0.4}).encode()
        handler.send_response(200 if ready else 202)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        return True

    bucket.custom = answer
    bucket.objects["/zip"] = archive
    return queries


def test_roboflow(bucket: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOFLOW_API_KEY", "secret")
    queries = play_roboflow(bucket, tmp_path, not_ready=0)
    bucket.faults["/zip"] = ["drop", "503", "drop"]
    report = download("roboflow", tmp_path / "out", limit=6, policy=QUICK)
    assert (report.present, report.kinds) == (6, {"416 x 416 export": 6})
    assert queries == ["api_key=secret&nocache=true"]
    size = len(bucket.objects["/zip"])
    assert bucket.ranges == [f"bytes={n}-" for n in (size // 2, size - (size - size // 2 + 1) // 2)]


@pytest.mark.parametrize(
    ("faults", "words"), [(["404"], "HTTP 404"), (["503"] * 9, "HTTP 503"), (["wrong"], "neither a folder nor a zip")]
)
def test_a_zip_that_does_not_come(
    bucket: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: list[str], words: str
) -> None:
    monkeypatch.setenv("ROBOFLOW_API_KEY", "secret")
    play_roboflow(bucket, tmp_path, not_ready=0)
    bucket.faults["/zip"] = faults
    with pytest.raises(AiflowError, match=words):
        download("roboflow", tmp_path / "out", limit=6, policy=QUICK)


def test_roboflow_is_asked_until_it_is_ready(
    bucket: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBOFLOW_API_KEY", "secret")
    queries = play_roboflow(bucket, tmp_path)
    with Fetcher(QUICK) as fetcher:
        assert zipfile.is_zipfile(fetch_roboflow(fetcher, lambda *_: None, poll_s=0.01))
        assert len(queries) == 3
        queries.clear()
        with pytest.raises(AiflowError, match="not ready in time"):
            fetch_roboflow(fetcher, lambda *_: None, poll_s=0.01, patience_s=0)


@pytest.mark.parametrize("fault", ["401", "403", "500"])
def test_roboflow_refuses_and_the_key_stays_secret(
    bucket: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("ROBOFLOW_API_KEY", "secret")
    bucket.faults[f"/{ROBOFLOW_EXPORT}"] = [fault] * QUICK.attempts
    with pytest.raises(AiflowError, match=f"HTTP {fault}") as caught:
        download("roboflow", tmp_path, policy=QUICK)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "answer", ["sign in", "[]", '{"export": 7}', "[" * 9_000, '{"export": {"link": "http://\\u0000"}}']
)
def test_roboflow_says_what_cannot_be_understood(
    bucket: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setenv("ROBOFLOW_API_KEY", "secret")
    bucket.objects[f"/{ROBOFLOW_EXPORT}"] = answer.encode()
    with pytest.raises(AiflowError, match="its answer was not understood"):
        download("roboflow", tmp_path, policy=QUICK)


def test_roboflow_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBOFLOW_API_KEY", raising=False)
    with pytest.raises(PrerequisiteError, match="ROBOFLOW_API_KEY is not set"):
        download("roboflow", tmp_path, policy=QUICK)
