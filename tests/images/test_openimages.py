"""What Open Images' bucket answers, and what is made of it: splits, faults, memory."""

from __future__ import annotations

import codecs
import json
import time
from pathlib import Path

import pytest

from aiflow_cli.fetching import RetryPolicy
from aiflow_cli.images.download import download
from aiflow_cli.images.fetch import Fetcher
from aiflow_cli.images.imageset import LARGEST_BYTES
from aiflow_cli.images.openimages import GIVE_UP_AFTER, SPLITS
from tests.images.bucket_server import (
    QUICK,
    TWELVE,
    BucketServer,
    fetch_twelve,
    leftovers,
    make_image,
)


def path_of(bucket: BucketServer, image_id: str) -> str:
    return next(path for path in bucket.objects if image_id in path)


@pytest.mark.parametrize("absent_status", [403, 404])
def test_every_split_is_tried_and_remembered(bucket: BucketServer, tmp_path: Path, absent_status: int) -> None:
    bucket.absent_status = absent_status
    report = fetch_twelve(tmp_path)
    assert (report.present, report.fetched, report.missing) == (12, 12, {})
    assert report.kinds == {"unresized": 12}
    for path, data in bucket.objects.items():
        assert (tmp_path / Path(path).name).read_bytes() == data
    assert bucket.requests.total() == 4 * (1 + 2 + 3)

    (tmp_path / f"{TWELVE[2]}.jpg").unlink()
    bucket.requests.clear()
    again = fetch_twelve(tmp_path)
    assert (again.present, again.fetched) == (12, 1)
    assert bucket.requests == {f"/test/{TWELVE[2]}.jpg": 1}


def test_nothing_is_asked_when_all_is_there(bucket: BucketServer, tmp_path: Path) -> None:
    fetch_twelve(tmp_path)
    bucket.requests.clear()
    assert fetch_twelve(tmp_path).fetched == 0
    assert not bucket.requests
    assert fetch_twelve(tmp_path, force=True).fetched == 12
    assert bucket.requests.total() == 12


@pytest.mark.parametrize("fault", ["drop", "wrong", "truncated", "hang", "408", "500", "503", "429", "wait 1", "slow"])
def test_a_passing_fault_is_survived(bucket: BucketServer, tmp_path: Path, fault: str) -> None:
    bucket.faults = {path: [fault] for path in bucket.objects}
    report = fetch_twelve(tmp_path)
    assert report.missing == {}
    assert {file.stem: file.read_bytes() for file in tmp_path.glob("*.jpg")} == {
        Path(path).stem: data for path, data in bucket.objects.items()
    }


@pytest.mark.parametrize(("fault", "words"), [("wrong", "wrong bytes"), ("503", "HTTP 503"), ("drop", "peer closed")])
def test_a_lasting_fault_is_reported_and_can_be_mended(
    bucket: BucketServer, tmp_path: Path, fault: str, words: str
) -> None:
    bucket.faults = {path_of(bucket, TWELVE[5]): [fault] * QUICK.attempts}
    report = fetch_twelve(tmp_path)
    assert list(report.missing) == [TWELVE[5]]
    assert words in report.missing[TWELVE[5]]
    assert not (tmp_path / f"{TWELVE[5]}.jpg").exists()
    assert not leftovers(tmp_path)
    assert fetch_twelve(tmp_path).present == 12


def test_403_and_404_are_final(bucket: BucketServer, tmp_path: Path) -> None:
    del bucket.objects[path_of(bucket, TWELVE[5])]
    report = fetch_twelve(tmp_path)
    assert report.missing == {TWELVE[5]: "in none of the splits"}
    assert [bucket.requests[f"/{split}/{TWELVE[5]}.jpg"] for split in SPLITS] == [1, 1, 1]
    bucket.requests.clear()
    assert fetch_twelve(tmp_path).missing == report.missing
    assert not bucket.requests

    bucket.objects[f"/test/{TWELVE[5]}.jpg"] = make_image(5)
    assert fetch_twelve(tmp_path).present == 11
    assert fetch_twelve(tmp_path, force=True).present == 12


def test_what_is_too_large_is_asked_for_once(bucket: BucketServer, tmp_path: Path) -> None:
    path = path_of(bucket, TWELVE[0])
    bucket.objects[path] += bytes(LARGEST_BYTES)
    report = fetch_twelve(tmp_path)
    assert report.missing == {TWELVE[0]: f"the answer is larger than {LARGEST_BYTES} bytes"}
    assert bucket.requests[path] == 1


def test_a_proxy_that_forbids_all_is_not_remembered(bucket: BucketServer, tmp_path: Path) -> None:
    objects, bucket.objects = bucket.objects, {}
    report = download("openimages", tmp_path, limit=100, jobs=1, policy=QUICK)
    assert report.present == 0
    assert bucket.requests.total() <= 3 * (GIVE_UP_AFTER + 1)
    assert sum("not asked for" in reason for reason in report.missing.values()) >= 100 - GIVE_UP_AFTER - 1
    bucket.objects = objects
    assert fetch_twelve(tmp_path).present == 12


def test_damaged_files_are_fetched_again(bucket: BucketServer, tmp_path: Path) -> None:
    fetch_twelve(tmp_path)
    good = (tmp_path / f"{TWELVE[0]}.jpg").read_bytes()
    (tmp_path / f"{TWELVE[0]}.jpg").write_bytes(good[:100])
    (tmp_path / f"{TWELVE[1]}.jpg").write_bytes(b"")
    report = fetch_twelve(tmp_path)
    assert (report.present, report.fetched) == (12, 2)
    assert (tmp_path / f"{TWELVE[0]}.jpg").read_bytes() == good


def test_answers_survive_a_crash_in_the_middle_of_a_line(bucket: BucketServer, tmp_path: Path) -> None:
    fetch_twelve(tmp_path)
    answers = tmp_path / "openimages.jsonl"
    lines = answers.read_text().splitlines()
    assert all(json.loads(line)["image_id"] in TWELVE for line in lines)
    answers.write_text("\n".join(lines)[:-10])
    assert fetch_twelve(tmp_path).present == 12

    lost = json.loads(lines[-1])["image_id"]
    (tmp_path / f"{lost}.jpg").unlink()
    assert fetch_twelve(tmp_path).present == 12  # what is asked again is written to a line of its own
    bucket.requests.clear()
    (tmp_path / f"{lost}.jpg").unlink()
    assert fetch_twelve(tmp_path).present == 12
    assert bucket.requests.total() == 1


def test_a_wait_that_the_server_asks_for_is_kept(bucket: BucketServer) -> None:
    bucket.faults = {path_of(bucket, TWELVE[0]): ["wait 1"]}
    policy = RetryPolicy(attempts=2, first_pause_s=0.01, longest_pause_s=5)
    with Fetcher(policy) as fetcher:
        began = time.monotonic()
        assert fetcher.get(bucket.url + path_of(bucket, TWELVE[0]))
    assert time.monotonic() - began >= 1


def test_a_mark_of_utf_8_before_the_answers(bucket: BucketServer, tmp_path: Path) -> None:
    fetch_twelve(tmp_path)
    answers = tmp_path / "openimages.jsonl"
    answers.write_bytes(codecs.BOM_UTF8 + answers.read_bytes())
    first = json.loads(answers.read_text(encoding="utf-8-sig").splitlines()[0])["image_id"]
    (tmp_path / f"{first}.jpg").unlink()
    bucket.requests.clear()
    assert fetch_twelve(tmp_path).present == 12
    assert bucket.requests.total() == 1
