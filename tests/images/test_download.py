"""A download as a whole: wrong use, disks that are full, kills, and two at once."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from aiflow_cli.errors import StoreError, UsageError
from aiflow_cli.images.attribution import write_attributions
from aiflow_cli.images.download import DownloadReport, download
from aiflow_cli.images.openimages import SPLITS
from aiflow_cli.images.vehicles import manifest, save
from tests.e2e.tools import wait_for
from tests.images.bucket_server import (
    QUICK,
    TWELVE,
    BucketServer,
    fetch_twelve,
    leftovers,
    make_image,
    real_photos,
    serve_bucket,
)


def test_a_dead_address_is_given_up_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_OPENIMAGES_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    report = download("openimages", tmp_path, policy=QUICK)
    assert len(report.missing) == 627
    assert time.monotonic() - began < 10
    assert any("ConnectError" in reason for reason in report.missing.values())


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("AIFLOW_OPENIMAGES_URL", "bucket.example", "must begin with http"),
        ("AIFLOW_OPENIMAGES_URL", "http://", "name a host"),
        ("AIFLOW_OPENIMAGES_URL", "http://a:b:c", "is no address"),
        ("ALL_PROXY", "nonsense://proxy", "proxy"),
    ],
)
def test_an_ill_address_is_wrong_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=words):
        fetch_twelve(tmp_path)


def test_a_killed_download_goes_on_where_it_stopped(bucket: BucketServer, tmp_path: Path) -> None:
    """Killed while the sixth photograph is on its way: what was there is kept, and only the rest is asked for."""
    killed: list[int] = []

    def kill_at_the_sixth(handler: BaseHTTPRequestHandler) -> bool:
        if TWELVE[5] not in handler.path or killed:
            return False
        process.kill()
        killed.append(process.wait(10))
        return True

    bucket.custom = kill_at_the_sixth
    code = "import sys, pathlib, aiflow_cli.images.download as d; "
    code += "d.download('openimages', pathlib.Path(sys.argv[1]), limit=12, jobs=1)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    wait_for(lambda: killed, "the sixth request")
    assert killed == [-signal.SIGKILL]
    assert {file.stem for file in tmp_path.glob("*.jpg")} == set(TWELVE[:5])
    bucket.requests.clear()
    report = fetch_twelve(tmp_path)
    assert (report.present, report.fetched) == (12, 7)
    assert not [path for path in bucket.requests if any(image_id in path for image_id in TWELVE[:5])]
    assert not leftovers(tmp_path)


@pytest.mark.slow
def test_the_627_real_photographs_through_a_bad_network(tmp_path: Path) -> None:
    photos, everything = real_photos(), list(manifest())
    faults: tuple[list[str], ...] = (["drop"], ["wrong", "503"], ["truncated"], ["500"], ["slow"], [], [], [])
    with serve_bucket() as bucket:
        for index, image_id in enumerate(everything):
            path = f"/{SPLITS[index % 3]}/{image_id}.jpg"
            bucket.objects[path] = (photos / f"{image_id}.jpg").read_bytes()
            bucket.faults[path] = list(faults[index % len(faults)])
        report = download("openimages", tmp_path, policy=QUICK)
        assert (report.present, report.fetched, report.missing) == (627, 627, {})
        assert report.kinds == {"416 x 416 export": 627}
        for image_id, row in manifest().items():
            assert hashlib.sha256((tmp_path / f"{image_id}.jpg").read_bytes()).hexdigest() == row.sha256
        bucket.requests.clear()
        assert download("openimages", tmp_path, policy=QUICK).fetched == 0
        assert not bucket.requests


@pytest.mark.parametrize(
    ("source", "limit", "jobs", "words"),
    [
        ("nowhere", None, 8, "no source"),
        ("x" * 300, None, 8, "255 is the most"),
        ("~nobody-of-that-name/x", None, 8, "no user of that name"),
        ("openimages", 0, 8, "--limit 0"),
        ("openimages", 1, 0, "--jobs 0"),
    ],
)
def test_wrong_use(tmp_path: Path, source: str, limit: int | None, jobs: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        download(source, tmp_path, limit=limit, jobs=jobs)


def test_a_folder_that_cannot_be_written(bucket: BucketServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--output"):
        fetch_twelve(tmp_path / "file" / "photos")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_full(bucket: BucketServer, tmp_path: Path) -> None:
    (tmp_path / f"{TWELVE[0]}.jpg.tmp").symlink_to("/dev/full")
    with pytest.raises(StoreError, match="free some space"):
        fetch_twelve(tmp_path, limit=1)
    assert not leftovers(tmp_path)
    shutil.rmtree(tmp_path)


def test_what_fails_first_is_what_is_said(tmp_path: Path) -> None:
    """Not what fails when the rest is cleared away: here the folder has become a file meanwhile."""
    folder = tmp_path / "photos"
    folder.write_text("")
    with pytest.raises(
        StoreError, match=r"\.jpg cannot be written \(Not a directory\): check the folder, or give another"
    ):
        save(folder / f"{TWELVE[0]}.jpg", make_image(0))
    with pytest.raises(StoreError, match=r"attribution\.csv cannot be written \(Not a directory\)"):
        write_attributions(folder / "attribution.csv", [])


def test_two_downloads_at_once(bucket: BucketServer, tmp_path: Path) -> None:
    """The second waits, says so, and asks for nothing that the first has brought."""
    said: list[str] = []
    reports: list[DownloadReport] = []

    def second() -> None:
        reports.append(download("openimages", tmp_path, limit=12, policy=QUICK, tell=said.append))

    thread = threading.Thread(target=second)

    def start_the_second(handler: BaseHTTPRequestHandler) -> bool:
        if not said:
            if not thread.is_alive():
                thread.start()
            wait_for(lambda: said, "the second to wait")
        return False

    bucket.custom = start_the_second
    assert download("openimages", tmp_path, limit=12, jobs=1, policy=QUICK).fetched == 12
    asked = bucket.requests.total()
    thread.join(30)
    assert (reports[0].present, reports[0].fetched, bucket.requests.total()) == (12, 0, asked)
    assert said == [f"another download into {tmp_path} is running: waiting for its end"]


def test_ctrl_c_does_not_wait_for_a_silent_server(bucket: BucketServer, tmp_path: Path) -> None:
    def silent(handler: BaseHTTPRequestHandler) -> bool:
        time.sleep(8)
        return True

    bucket.custom = silent
    code = "import sys, pathlib, aiflow_cli.images.download as d; d.download('openimages', pathlib.Path(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE)
    while not bucket.requests:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    process.communicate(timeout=20)
    assert time.monotonic() - began < 4
    assert process.returncode != 0
    assert not leftovers(tmp_path)
