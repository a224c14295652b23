"""Real photographs through the whole chain. The small pair knows rendered scenes only: wrong captions, and
identical.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aiflow_cli.cli.app import app
from aiflow_cli.decoding.methods import Method
from aiflow_cli.images.vehicles import manifest
from aiflow_cli.models.pair import find_pair
from aiflow_cli.trials.store import read_trials
from tests.conftest import TinyPair
from tests.e2e.tools import aiflow
from tests.images.bucket_server import make_image, real_photos

METHODS = ("-m", "speculative", "-m", "co-located", "-g", 4, "-g", 16)
SETTINGS = {("server-only", None), *((method, gamma) for method in ("speculative", "co-located") for gamma in (4, 16))}


@pytest.fixture(autouse=True)
def sigterm() -> Iterator[None]:
    """`aiflow run`, called within this process, decides what SIGTERM does in it."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def check(document: dict[str, Any], folder: Path, n_images: int) -> None:
    """Every method has captioned every photograph, with the bytes that lie on the disk, as server-only has."""
    summaries = {(m["method"], m["gamma"]): m for m in document["groups"][0]["methods"]}
    assert summaries.keys() == SETTINGS
    for setting, summary in summaries.items():
        identical = None if setting[0] == "server-only" else n_images
        assert (summary["trials"], summary["identical"]) == (n_images, identical), setting
        assert summary["tokens"] == summaries["server-only", None]["tokens"]
    image_ids = {image["image_id"] for image in document["images"]}
    assert len(image_ids) == len(document["images"]) == n_images
    for image in document["images"]:
        assert len(image["captions"]) == len(SETTINGS)
        assert len(set(image["captions"].values())) == 1
    uploads = {t.image_id: t.bytes_up for t in read_trials(folder) if t.setting.method is Method.SERVER_ONLY}
    assert uploads.keys() == image_ids
    for image_id, n_bytes in uploads.items():
        photograph = manifest()[Path(image_id).stem].n_bytes
        assert photograph < n_bytes < photograph + 400  # a little framing, and the question


def test_a_few_photographs(tiny_pair: TinyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, from where `aiflow download` puts them."""
    folder = tmp_path / "result"
    options = ("--data", "vehicles-openimage", "--images", 3, "--max-new-tokens", 12, "--output", folder)
    monkeypatch.setenv("AIFLOW_DATA", str(real_photos().parent))
    finished = aiflow("run", *tiny_pair.options, *METHODS, *options, "--json", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    check(document, folder, 3)
    assert document["data"]["name"] == "vehicles-openimage"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_small_pair_over_64_photographs(tmp_path: Path) -> None:
    photos, pair = real_photos(), find_pair("small")
    if not all(any(Path(folder).glob("*.safetensors")) for folder in (pair.target, pair.draft)):
        pytest.skip("the small pair's weights are not in the package: run `make pair`")
    folder = tmp_path / "result"
    options = ("--data", photos, "--images", 64, "--output", folder)
    finished = aiflow("run", *METHODS, *options, "--json", cwd=tmp_path, timeout=1500)
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    check(document, folder, 64)
    assert all(image["captions"]["server-only"] for image in document["images"])  # wrong they may be, but not empty


def test_not_downloaded_is_exit_3_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_DATA", str(tmp_path))
    done = CliRunner().invoke(app, ["run", "--data", "vehicles-openimage"])
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.startswith("error: no photograph in ")
    assert "run `aiflow download`" in done.stderr


BAD_FOLDERS: dict[str, tuple[dict[str, bytes], int, str]] = {
    "empty": ({}, 2, "no image"),
    "no pictures": ({"notes.txt": b"hello"}, 2, "no image"),
    "empty file": ({"a.jpg": b""}, 1, "a.jpg is empty"),
    "no picture": ({"a.jpg": b"hello"}, 1, "a.jpg cannot be read as an image"),
    "torn": ({"a.jpg": make_image(0, 200, 200)[:3000]}, 1, "a.jpg cannot be read as an image"),
    "torn parquet": ({"a.parquet": b"PAR1"}, 2, "cannot be read as parquet"),
}


@pytest.mark.parametrize(("files", "code", "words"), BAD_FOLDERS.values(), ids=BAD_FOLDERS)
def test_bad_images_stop_a_run_before_it_starts(
    files: dict[str, bytes], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, data in files.items():
        (photos / name).write_bytes(data)
    done = CliRunner().invoke(app, ["run", "--data", str(photos)])
    assert (done.exit_code, done.stdout) == (code, "")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert words in errors[0]
    assert not (tmp_path / "results").exists()
