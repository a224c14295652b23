from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import typer
from bucket_server import QUICK, BucketServer, make_image, real_photos, serve_bucket
from typer.testing import CliRunner

from aiflow_cli.cli.download import download as command
from aiflow_cli.errors import AiflowError, PrerequisiteError, UsageError
from aiflow_cli.images.download import DownloadReport, download
from aiflow_cli.images.fetch import Fetcher
from aiflow_cli.images.roboflow import ROBOFLOW_EXPORT, fetch_roboflow
from aiflow_cli.images.source import open_images
from aiflow_cli.images.vehicles import manifest

IDS = list(manifest())


def take(source: Path, folder: Path, limit: int | None = None) -> DownloadReport:
    return download(str(source), folder, limit=limit, policy=QUICK)


def export(target: Path, limit: int | None = None) -> Path:
    """The export as Roboflow packs it: each photograph twice, under two hashes, beside its labels."""
    photos = real_photos()
    for image_id in IDS[:limit]:
        for suffix in ("0123456789abcdef0123456789abcdef", "AbCdEfGhIjKlMnOpQrSt"):
            file = target / manifest()[image_id].split / "images" / f"{image_id}_jpg.rf.{suffix}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.symlink_to(photos / f"{image_id}.jpg")
    (target / "data.yaml").write_text("nc: 5")
    return target


def packed(folder: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for member in sorted(folder.rglob("*")):
            archive.write(member, Path("Vehicles-OpenImages.v1") / member.relative_to(folder))
    return file


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
    bucket.faults["/zip"] = ["drop"]
    report = download("roboflow", tmp_path / "out", limit=6, policy=QUICK)
    assert (report.present, report.kinds) == (6, {"416 x 416 export": 6})
    assert queries == ["api_key=secret&nocache=true"]


def test_roboflow_is_asked_until_it_is_ready(
    bucket: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBOFLOW_API_KEY", "secret")
    queries = play_roboflow(bucket, tmp_path)
    with Fetcher(QUICK) as fetcher:
        assert zipfile.is_zipfile(fetch_roboflow(fetcher, poll_s=0.01))
        assert len(queries) == 3
        queries.clear()
        with pytest.raises(AiflowError, match="not ready in time"):
            fetch_roboflow(fetcher, poll_s=0.01, patience_s=0)


@pytest.mark.parametrize("fault", ["401", "403", "500"])
def test_roboflow_refuses_and_the_key_stays_secret(
    bucket: BucketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("ROBOFLOW_API_KEY", "secret")
    bucket.faults[f"/{ROBOFLOW_EXPORT}"] = [fault] * QUICK.attempts
    with pytest.raises(AiflowError, match=f"HTTP {fault}") as caught:
        download("roboflow", tmp_path, policy=QUICK)
    assert "secret" not in str(caught.value)


def test_roboflow_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBOFLOW_API_KEY", raising=False)
    with pytest.raises(PrerequisiteError, match="ROBOFLOW_API_KEY is not set"):
        download("roboflow", tmp_path, policy=QUICK)


def test_kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a package in kagglehub's place that "downloads" to a folder, as the real one does."""
    folder = export(tmp_path / "cache" / "VehiclesDetectionDataset", 3).parent
    (tmp_path / "kagglehub.py").write_text(f"def dataset_download(name):\n    return {str(folder)!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert download("kaggle", tmp_path / "out", limit=3, policy=QUICK).present == 3


def test_command(tmp_path: Path) -> None:
    """The command's output: counts on standard output, what is missing on standard error, exit code 1 if any is."""
    app = typer.Typer()
    app.command()(command)
    source = export(tmp_path / "export", 3)
    arguments = ["--source", str(source), "--output", str(tmp_path / "out")]
    good = CliRunner().invoke(app, [*arguments, "--limit", "3"])
    assert (good.exit_code, good.stdout.startswith("3 of 3 photographs")) == (0, True)
    short = CliRunner().invoke(app, [*arguments, "--limit", "4", "--json"])
    assert short.exit_code == 1
    assert json.loads(short.stdout)["missing"] == [{"image_id": IDS[3], "reason": "not in the source"}]
    short = CliRunner().invoke(app, [*arguments, "--limit", "4"])
    assert short.stdout.startswith("3 of 4 photographs")
    assert f"missing 1, not in the source: {IDS[3]}" in short.stderr
