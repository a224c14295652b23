"""What servers, caches and other processes do to a pull."""

from __future__ import annotations

import codecs
import hashlib
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from aiflow_cli.fetching import RetryPolicy, alone
from aiflow_cli.models.hub import Repository, cached_folder
from tests.cli.hub_server import COMMIT, SILENT_S, WEIGHTS, Hub, Run, document, error, snapshot
from tests.e2e.tools import wait_for


@pytest.mark.parametrize(("fault", "words"), [("wrong", "its sha1 is not the hub's"), ("long", "more than the")])
def test_small_files_are_compared_too(run: Run, hub: Hub, tmp_path: Path, fault: str, words: str) -> None:
    """Nothing gets a name that is the digest of something else, and no snapshot appears before it is whole."""
    hub.faults["config.json"] = [fault]
    assert words in error(run("pull", "Tiny/Target"), 1)
    assert not snapshot(tmp_path).exists()
    for blob in (tmp_path / "hf").rglob("blobs/*"):
        assert blob.suffix == ".partial" or digest_of(blob) == blob.name
    document(run("pull", "Tiny/Target", "--json"))
    assert all(digest_of(blob) == blob.name for blob in (tmp_path / "hf").rglob("blobs/*"))


def digest_of(blob: Path) -> str:
    """What the cache should have named it."""
    data = blob.read_bytes()
    if len(blob.name) == 64:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    "faults",
    [["503"], ["reset", "500"], ["wait 1"], ["short"], ["cut", "502", "short", "reset", "cut"]],
    ids=" ".join,
)
@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_passing_faults_are_survived(run: Run, hub: Hub, tmp_path: Path, name: str, faults: list[str]) -> None:
    hub.faults[name] = list(faults)
    began = time.monotonic()
    document(run("pull", "Tiny/Target", "--json"))
    assert (snapshot(tmp_path) / name).read_bytes() == (hub.folders["Tiny/Target"] / name).read_bytes()
    assert "wait 1" not in faults or time.monotonic() - began >= 1


def test_silence_is_a_fault(run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that goes on saying nothing is asked again after a while, or given up; it is not waited for for ever."""
    for module in ("hub", "pull"):
        policy = RetryPolicy(attempts=3, first_pause_s=0.001, longest_pause_s=0.01, timeout_s=0.3)
        monkeypatch.setattr(f"aiflow_cli.models.{module}.POLICY", policy)
    began = time.monotonic()
    hub.faults |= {"api": ["silent"], WEIGHTS: ["silent"]}
    document(run("pull", "Tiny/Target", "--json"))
    assert len(hub.ranges) == 1
    hub.faults["api"] = ["silent"] * 3
    assert "broke off" in error(run("pull", "Tiny/Draft"), 1)
    assert time.monotonic() - began < SILENT_S


def test_faults_of_what_the_hub_says(run: Run, hub: Hub) -> None:
    hub.faults["api"] = ["503", "reset", "wait 1"]
    document(run("pull", "Tiny/Target", "--dry-run", "--json"))
    hub.faults["api"] = ["503"] * 20
    assert "broke off" in error(run("pull", "Tiny/Target"), 1)
    assert len(hub.faults["api"]) == 20 - 5


def test_bytes_that_never_become_more_are_given_up(run: Run, hub: Hub) -> None:
    """A server that knows no ranges and always sends the first half: something comes each time, but nothing new."""
    hub.knows_ranges = False
    hub.faults[WEIGHTS] = ["short"] * 100
    assert "ended after" in error(run("pull", "Tiny/Target"), 1)
    assert len(hub.faults[WEIGHTS]) >= 90


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no document": lambda told: "<html>sign in</html>",
    "no files": lambda told: told | {"siblings": 7},
    "a commit that leaves the folder": lambda told: told | {"sha": "../../../../evil"},
    "a name that leaves the folder": lambda told: (
        told | {"siblings": [file | {"rfilename": f"../../../../{file['rfilename']}"} for file in told["siblings"]]}
    ),
    "an absolute name": lambda told: (
        told | {"siblings": [file | {"rfilename": f"/tmp/evil-{file['rfilename']}"} for file in told["siblings"]]}
    ),
    "a digest that leaves the folder": lambda told: (
        told | {"siblings": [file | {"blobId": "../../../../evil", "lfs": None} for file in told["siblings"]]}
    ),
    "no digest": lambda told: (
        told | {"siblings": [{"rfilename": file["rfilename"], "size": 1} for file in told["siblings"]]}
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_the_hub_says_is_checked(run: Run, hub: Hub, tmp_path: Path, lie: str) -> None:
    hub.lies = LIES[lie]
    before = set(tmp_path.rglob("*"))
    assert "cannot be understood" in error(run("pull", "Tiny/Target"), 1)
    assert set(tmp_path.rglob("*")) == before


def test_an_etag_names_nothing(run: Run, hub: Hub, tmp_path: Path) -> None:
    """The header with a file is one more stranger's word; the digests come from what the hub says of the repository."""
    hub.etag = "../../../../evil"
    document(run("pull", "Tiny/Target", "--json"))
    assert not list(tmp_path.rglob("evil*"))


def test_two_pulls_at_once(run: Run, hub: Hub, tmp_path: Path) -> None:
    """The second waits and says so; what the first has fetched by then is not fetched again."""
    folder = tmp_path / "hf" / "hub" / ".locks" / "models--Tiny--Target"
    finished: list[Result] = []
    thread = threading.Thread(target=lambda: finished.append(run("pull", "Tiny/Target", "--json")))
    with alone(folder / "aiflow-pull.lock", lambda: pytest.fail("nobody else pulls")):
        thread.start()
        wait_for(lambda: [r for r in hub.requests if "/api/" in r], "the second pull to ask")
        time.sleep(0.5)
        assert not hub.fetched(WEIGHTS)
    thread.join(60)
    document(finished[0])
    assert "another pull of Tiny/Target is running: waiting for its end" in finished[0].stderr
    assert hub.fetched(WEIGHTS) == 1


def stage(tmp_path: Path, reference: bytes | None) -> None:
    """Change what the cache says of `main`, as copying a cache by hand may."""
    file = tmp_path / "hf" / "hub" / "models--Tiny--Target" / "refs" / "main"
    shutil.rmtree(file.parent, ignore_errors=True)
    if reference is not None:
        file.parent.mkdir()
        file.write_bytes(reference)


def test_a_staged_cache_is_found(run: Run, hub: Hub, tmp_path: Path) -> None:
    """A newline in `refs/main`, a mark of UTF-8, or no `refs` at all where there is one snapshot."""
    document(run("pull", "Tiny/Target", "--json"))
    repository = Repository("Tiny/Target")
    for reference in (COMMIT.encode(), COMMIT.encode() + b"\r\n", codecs.BOM_UTF8 + COMMIT.encode() + b"\n", None):
        stage(tmp_path, reference)
        assert cached_folder(repository) == snapshot(tmp_path)
    assert cached_folder(Repository("Tiny/Target", "v2")) is None
    assert cached_folder(Repository("Tiny/Target", COMMIT)) == snapshot(tmp_path)
    for reference in (b"../../models--Tiny--Draft", b"\xff", b"", b"0" * 40):
        stage(tmp_path, reference)
        assert cached_folder(repository) is None
    stage(tmp_path, None)
    (snapshot(tmp_path).parent / ("f" * 40)).mkdir()
    assert cached_folder(repository) is None  # which of the two is not known


def test_a_file_of_another_size_is_fetched_anew(run: Run, hub: Hub, tmp_path: Path) -> None:
    document(run("pull", "Tiny/Target", "--json"))
    (snapshot(tmp_path) / "config.json").resolve().write_bytes(b"{}")
    assert document(run("pull", "Tiny/Target", "--json"))["models"][0]["fetched_bytes"] > 0
    assert (snapshot(tmp_path) / "config.json").read_bytes() == (
        hub.folders["Tiny/Target"] / "config.json"
    ).read_bytes()
