from __future__ import annotations

import codecs
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from aiflow_cli.errors import StoreError, UsageError
from aiflow_cli.fetching import RetryPolicy
from aiflow_cli.images.attribution import write_attributions
from aiflow_cli.images.download import DownloadReport, download
from aiflow_cli.images.fetch import Fetcher
from aiflow_cli.images.openimages import GIVE_UP_AFTER, SPLITS
from aiflow_cli.images.vehicles import manifest, save
from tests.e2e.tools import wait_for
from tests.images.bucket_server import QUICK, BucketServer, make_image, real_photos, serve_bucket

IDS = list(manifest())[:12]


@pytest.fixture
def bucket() -> Iterator[BucketServer]:
    """The first twelve photographs, four in each split."""
    with serve_bucket() as server:
        server.objects = {f"/{SPLITS[i % 3]}/{image_id}.jpg": make_image(i) for i, image_id in enumerate(IDS)}
        yield server


def fetch(folder: Path, limit: int = 12, force: bool = False) -> DownloadReport:
    return download("openimages", folder, limit=limit, jobs=4, force=force, policy=QUICK)


def path_of(bucket: BucketServer, image_id: str) -> str:
    return next(path for path in bucket.objects if image_id in path)


def leftovers(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir() if file.name.endswith(".tmp")]


@pytest.mark.parametrize("absent_status", [403, 404])
def test_every_split_is_tried_and_remembered(bucket: BucketServer, tmp_path: Path, absent_status: int) -> None:
    bucket.absent_status = absent_status
    report = fetch(tmp_path)
    assert (report.present, report.fetched, report.missing) == (12, 12, {})
    assert report.kinds == {"unresized": 12}
    for path, data in bucket.objects.items():
        assert (tmp_path / Path(path).name).read_bytes() == data
    assert bucket.requests.total() == 4 * (1 + 2 + 3)

    (tmp_path / f"{IDS[2]}.jpg").unlink()
    bucket.requests.clear()
    again = fetch(tmp_path)
    assert (again.present, again.fetched) == (12, 1)
    assert bucket.requests == {f"/test/{IDS[2]}.jpg": 1}


def test_nothing_is_asked_when_all_is_there(bucket: BucketServer, tmp_path: Path) -> None:
    fetch(tmp_path)
    bucket.requests.clear()
    assert fetch(tmp_path).fetched == 0
    assert not bucket.requests
    assert fetch(tmp_path, force=True).fetched == 12
    assert bucket.requests.total() == 12


@pytest.mark.parametrize("fault", ["drop", "wrong", "truncated", "hang", "408", "500", "503", "429", "wait 1", "slow"])
def test_a_passing_fault_is_survived(bucket: BucketServer, tmp_path: Path, fault: str) -> None:
    bucket.faults = {path: [fault] for path in bucket.objects}
    report = fetch(tmp_path)
    assert report.missing == {}
    assert {file.stem: file.read_bytes() for file in tmp_path.glob("*.jpg")} == {
        Path(path).stem: data for path, data in bucket.objects.items()
    }


@pytest.mark.parametrize(("fault", "words"), [("wrong", "wrong bytes"), ("503", "HTTP 503"), ("drop", "peer closed")])
def test_a_lasting_fault_is_reported_and_can_be_mended(
    bucket: BucketServer, tmp_path: Path, fault: str, words: str
) -> None:
    bucket.faults = {path_of(bucket, IDS[5]): [fault] * QUICK.attempts}
    report = fetch(tmp_path)
    assert list(report.missing) == [IDS[5]]
    assert words in report.missing[IDS[5]]
    assert not (tmp_path / f"{IDS[5]}.jpg").exists()
    assert not leftovers(tmp_path)
    assert fetch(tmp_path).present == 12


def test_403_and_404_are_final(bucket: BucketServer, tmp_path: Path) -> None:
    del bucket.objects[path_of(bucket, IDS[5])]
    report = fetch(tmp_path)
    assert report.missing == {IDS[5]: "in none of the splits"}
    assert [bucket.requests[f"/{split}/{IDS[5]}.jpg"] for split in SPLITS] == [1, 1, 1]
    bucket.requests.clear()
    assert fetch(tmp_path).missing == report.missing
    assert not bucket.requests

    bucket.objects[f"/test/{IDS[5]}.jpg"] = make_image(5)
    assert fetch(tmp_path).present == 11
    assert fetch(tmp_path, force=True).present == 12


def test_a_proxy_that_forbids_all_is_not_remembered(bucket: BucketServer, tmp_path: Path) -> None:
    objects, bucket.objects = bucket.objects, {}
    report = download("openimages", tmp_path, limit=100, jobs=1, policy=QUICK)
    assert report.present == 0
    assert bucket.requests.total() <= 3 * (GIVE_UP_AFTER + 1)
    assert sum("not asked for" in reason for reason in report.missing.values()) >= 100 - GIVE_UP_AFTER - 1
    bucket.objects = objects
    assert fetch(tmp_path).present == 12


def test_a_dead_address_is_given_up_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_OPENIMAGES_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    report = download("openimages", tmp_path, policy=QUICK)
    assert len(report.missing) == 627
    assert time.monotonic() - began < 10
    assert any("ConnectError" in reason for reason in report.missing.values())


def test_damaged_files_are_fetched_again(bucket: BucketServer, tmp_path: Path) -> None:
    fetch(tmp_path)
    good = (tmp_path / f"{IDS[0]}.jpg").read_bytes()
    (tmp_path / f"{IDS[0]}.jpg").write_bytes(good[:100])
    (tmp_path / f"{IDS[1]}.jpg").write_bytes(b"")
    report = fetch(tmp_path)
    assert (report.present, report.fetched) == (12, 2)
    assert (tmp_path / f"{IDS[0]}.jpg").read_bytes() == good


def test_answers_survive_a_crash_in_the_middle_of_a_line(bucket: BucketServer, tmp_path: Path) -> None:
    fetch(tmp_path)
    answers = tmp_path / "openimages.jsonl"
    lines = answers.read_text().splitlines()
    assert all(json.loads(line)["image_id"] in IDS for line in lines)
    answers.write_text("\n".join(lines)[:-10])
    assert fetch(tmp_path).present == 12

    lost = json.loads(lines[-1])["image_id"]
    (tmp_path / f"{lost}.jpg").unlink()
    assert fetch(tmp_path).present == 12  # what is asked again is written to a line of its own
    bucket.requests.clear()
    (tmp_path / f"{lost}.jpg").unlink()
    assert fetch(tmp_path).present == 12
    assert bucket.requests.total() == 1


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
        fetch(tmp_path)


def test_a_wait_that_the_server_asks_for_is_kept(bucket: BucketServer) -> None:
    bucket.faults = {path_of(bucket, IDS[0]): ["wait 1"]}
    policy = RetryPolicy(attempts=2, first_pause_s=0.01, longest_pause_s=5)
    with Fetcher(policy) as fetcher:
        began = time.monotonic()
        assert fetcher.get(bucket.url + path_of(bucket, IDS[0])).status == 200
    assert time.monotonic() - began >= 1


def test_a_killed_download_goes_on_where_it_stopped(bucket: BucketServer, tmp_path: Path) -> None:
    """Killed while the sixth photograph is on its way: what was there is kept, and only the rest is asked for."""
    killed: list[int] = []

    def kill_at_the_sixth(handler: BaseHTTPRequestHandler) -> bool:
        if IDS[5] not in handler.path or killed:
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
    assert {file.stem for file in tmp_path.glob("*.jpg")} == set(IDS[:5])
    bucket.requests.clear()
    report = fetch(tmp_path)
    assert (report.present, report.fetched) == (12, 7)
    assert not [path for path in bucket.requests if any(image_id in path for image_id in IDS[:5])]
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
        fetch(tmp_path / "file" / "photos")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_full(bucket: BucketServer, tmp_path: Path) -> None:
    (tmp_path / f"{IDS[0]}.jpg.tmp").symlink_to("/dev/full")
    with pytest.raises(StoreError, match="free some space"):
        fetch(tmp_path, limit=1)
    assert not leftovers(tmp_path)
    shutil.rmtree(tmp_path)


def test_what_fails_first_is_what_is_said(tmp_path: Path) -> None:
    """Not what fails when the rest is cleared away: here the folder has become a file meanwhile."""
    folder = tmp_path / "photos"
    folder.write_text("")
    with pytest.raises(
        StoreError, match=r"\.jpg cannot be written \(Not a directory\): check the folder, or give another"
    ):
        save(folder / f"{IDS[0]}.jpg", make_image(0))
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


def test_a_mark_of_utf_8_before_the_answers(bucket: BucketServer, tmp_path: Path) -> None:
    fetch(tmp_path)
    answers = tmp_path / "openimages.jsonl"
    answers.write_bytes(codecs.BOM_UTF8 + answers.read_bytes())
    first = json.loads(answers.read_text(encoding="utf-8-sig").splitlines()[0])["image_id"]
    (tmp_path / f"{first}.jpg").unlink()
    bucket.requests.clear()
    assert fetch(tmp_path).present == 12
    assert bucket.requests.total() == 1


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
