"""`aiflow download`, the command: its output, its exit codes, and that standard output is data only."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from aiflow_cli.cli.app import app
from aiflow_cli.images.attribution import TABLES
from aiflow_cli.images.openimages import SPLITS
from aiflow_cli.images.vehicles import manifest
from tests.e2e.tools import AIFLOW, Background, aiflow, one_line, wait_for
from tests.images.bucket_server import BucketServer, make_image, real_photos, serve_bucket

IDS = list(manifest())[:6]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketServer]:
    """The first six photographs, two in each split, and the tables that name their authors."""
    monkeypatch.setenv("AIFLOW_DATA", str(tmp_path))
    with serve_bucket() as server:
        server.objects = {f"/{SPLITS[i % 3]}/{image_id}.jpg": make_image(i) for i, image_id in enumerate(IDS)}
        for index, split in enumerate(SPLITS):
            rows = [f"{image_id},A. Author,https://by/2.0/" for image_id in IDS[index::3]]
            server.objects[f"/{TABLES[split]}"] = "\n".join(["ImageID,Author,License", *rows]).encode()
        yield server


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["download", *map(str, arguments)])


def test_all_are_there(bucket: BucketServer, tmp_path: Path) -> None:
    done = invoke("--limit", "6")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"6 of 6 photographs in {tmp_path / 'vehicles-openimage'} (unresized, 6 new)\n"
    again = invoke("--limit", "6")
    assert again.stdout.endswith("(unresized, 0 new)\n")


def test_one_is_missing(bucket: BucketServer, tmp_path: Path) -> None:
    """Exit code 1, the count on standard output, the names and the remedy on standard error."""
    del bucket.objects[f"/train/{IDS[3]}.jpg"]
    done = invoke("--limit", "6")
    assert done.exit_code == 1
    assert done.stdout.startswith("5 of 6 photographs")
    assert f"missing 1, in none of the splits: {IDS[3]}" in done.stderr
    assert "run the same command again" in done.stderr

    document = json.loads(invoke("--limit", "6", "--json").stdout)
    assert document["missing"] == [{"image_id": IDS[3], "reason": "in none of the splits"}]
    assert (document["wanted"], document["present"], document["already_there"], document["fetched"]) == (6, 5, 5, 0)


def test_attribution(bucket: BucketServer, tmp_path: Path) -> None:
    done = invoke("--limit", "6", "--attribution")
    assert done.exit_code == 0, done.output
    file = tmp_path / "vehicles-openimage" / "attribution.csv"
    assert done.stdout.splitlines()[1] == f"author and licence of 6 of 6 in {file}"
    assert file.read_text().count("A. Author,https://by/2.0/") == 6

    document = json.loads(invoke("--limit", "6", "--attribution", "--json").stdout)
    assert document["attribution"] == {"file": str(file), "wanted": 6, "missing": []}


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_failed_attribution_does_not_hide_the_photographs(bucket: BucketServer, options: list[str]) -> None:
    bucket.faults[f"/{TABLES['validation']}"] = ["404"]
    done = invoke("--limit", "6", "--attribution", *options)
    assert done.exit_code == 1
    assert "error: no attribution of some photographs" in done.stderr
    if options:
        assert json.loads(done.stdout)["present"] == 6
    else:
        assert done.stdout.startswith("6 of 6 photographs")


def test_an_author_that_is_not_in_the_tables(bucket: BucketServer) -> None:
    table = f"/{TABLES['train']}"
    bucket.objects[table] = bucket.objects[table].replace(IDS[0].encode(), b"0" * 16)
    done = invoke("--limit", "6", "--attribution")
    assert done.exit_code == 1
    assert "author and licence of 5 of 6" in done.stdout
    assert f"not in Open Images' tables: {IDS[0]}" in done.stderr


def test_both_forms_are_told_apart(bucket: BucketServer) -> None:
    """Which form of the data set lies there decides what an upload costs, so a mixture does not pass in silence."""
    photos = real_photos()
    assert invoke("--limit", "3", "--source", photos).exit_code == 0
    other = invoke("--limit", "3")
    assert (other.exit_code, "other form than openimages" in other.stderr) == (0, True)
    mixed = invoke("--limit", "6")
    assert "3 416 x 416 export, 3 unresized, 3 new" in mixed.stdout
    assert "warning: both forms" in mixed.stderr
    assert "(unresized, 6 new)" in invoke("--limit", "6", "--force").stdout


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--source", "nowhere"], 2, "openimages, roboflow, kaggle, or an existing folder or zip"),
        (["--limit", "0"], 2, "--limit 0"),
        (["--jobs", "1000"], 2, "--jobs 1000"),
        (["--source", "roboflow"], 3, "ROBOFLOW_API_KEY is not set"),
        (["--output", "/dev/null/photos"], 1, "--output"),
        (["--output", "x" * 300], 2, "255 is the most"),
        (["--output", "~nobody-of-that-name/x"], 2, "no user of that name"),
        (["--source", "~nobody-of-that-name/x"], 2, "no user of that name"),
    ],
)
def test_errors_are_one_line(
    bucket: BucketServer, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int, words: str
) -> None:
    monkeypatch.delenv("ROBOFLOW_API_KEY", raising=False)
    done = invoke(*options)
    assert (done.exit_code, done.stdout) == (code, "")
    *progress, error = done.stderr.splitlines()
    assert all(line.startswith(("checking: ", "waiting for Roboflow")) for line in progress)
    assert error.startswith("error: ")
    assert words in error


def on_a_terminal(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, and what a terminal gets as standard error."""
    ours, theirs = os.openpty()
    command = subprocess.Popen([*AIFLOW, *arguments], stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    shown: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # its end, once the command has closed the other side
            while piece := os.read(ours, 65536):
                shown.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    output, _ = command.communicate(timeout=60)
    reader.join()
    os.close(ours)
    return command.returncode, output, b"".join(shown).decode()


def test_a_bar_on_a_terminal(bucket: BucketServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar for each thing that is done; standard output stays one document."""
    monkeypatch.setenv("TERM", "xterm")
    code, output, shown = on_a_terminal("download", "--limit", "6", "--attribution", "--json")
    assert code == 0, shown
    assert json.loads(output)["fetched"] == 6
    assert "\x1b[" in shown
    assert "photographs" in shown
    assert "table of validation, MB" in shown


def test_ctrl_c(bucket: BucketServer) -> None:
    def silent(handler: BaseHTTPRequestHandler) -> bool:
        time.sleep(5)
        return True

    bucket.custom = silent
    command = Background("download", "--limit", "6")
    wait_for(lambda: bucket.requests, "the first request")
    code, said = command.signal(signal.SIGINT)
    assert (code, said.splitlines()[-1]) == (130, "interrupted")


def test_ctrl_c_keeps_what_is_whole(bucket: BucketServer, tmp_path: Path) -> None:
    def silent_at_the_fifth(handler: BaseHTTPRequestHandler) -> bool:
        if IDS[4] not in handler.path:
            return False
        time.sleep(5)
        return True

    bucket.custom = silent_at_the_fifth
    command = Background("download", "--limit", "6", "--jobs", "1")
    wait_for(lambda: [path for path in bucket.requests if IDS[4] in path], "the fifth photograph")
    code, said = command.signal(signal.SIGINT)
    assert (code, said.splitlines()[-1]) == (130, "interrupted")
    folder = tmp_path / "vehicles-openimage"
    there = {file.name for file in folder.iterdir()} - {".download.lock"}
    assert there == {*(f"{image_id}.jpg" for image_id in IDS[:4]), "openimages.jsonl"}
    bucket.custom = lambda handler: False
    assert json.loads(invoke("--limit", "6", "--json").stdout)["already_there"] == 4


def test_a_read_only_file_system(bucket: BucketServer, tmp_path: Path) -> None:
    """What is there is found; what is not cannot be written, and that is said in one line."""
    folder = tmp_path / "vehicles-openimage"
    assert invoke("--limit", "2").exit_code == 0
    mount = f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount")

    def read_only(limit: int) -> subprocess.CompletedProcess[str]:
        command = f"{mount} && exec {sys.executable} -m aiflow_cli download --limit {limit}"
        return subprocess.run(["unshare", "-m", "sh", "-c", command], check=False, capture_output=True, text=True)

    there = read_only(2)
    assert (there.returncode, there.stdout) == (0, f"2 of 2 photographs in {folder} (unresized, 0 new)\n")
    full = read_only(3)
    assert full.returncode == 1
    assert "cannot be written (Read-only file system): check the folder, or give another" in one_line(full)


def test_a_folder_whose_name_is_no_text(bucket: BucketServer, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    document = json.loads(invoke("--limit", "2", "--json", "--attribution", "--output", folder).stdout)
    assert document["folder"] == str(tmp_path / "\\xff")
    assert document["attribution"]["file"] == str(tmp_path / "\\xff" / "attribution.csv")


def test_as_a_process_off_a_terminal(bucket: BucketServer) -> None:
    """The document alone on standard output; no bar and no colour on standard error."""
    done = aiflow("download", "--limit", "6", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["fetched"] == 6
    assert "\x1b" not in done.stderr
    refused = aiflow("download", "--source", "nowhere")
    assert refused.returncode == 2
    assert "no source `nowhere`" in one_line(refused)
