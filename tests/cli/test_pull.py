"""`aiflow pull` and models of the hub, against a server that stands in for it."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from aiflow_cli.errors import PrerequisiteError
from aiflow_cli.models.hub import POLICY, Repository, display_name
from aiflow_cli.models.pair import find_pair
from tests.cli.hub_server import COMMIT, WEIGHTS, Hub, Process, Run, document, error, snapshot
from tests.conftest import TinyPair
from tests.e2e.tools import AIFLOW, one_line, wait_for

OPTIONS = ("--target", "Tiny/Target", "--draft", "Tiny/Draft")


def test_pull_a_pair(run: Run, hub: Hub, tiny_pair: TinyPair) -> None:
    first = document(run("pull", "small", *OPTIONS, "--json"))
    assert [model["repository"] for model in first["models"]] == ["Tiny/Draft", "Tiny/Target"]
    assert {model["commit"] for model in first["models"]} == {COMMIT}
    for model, source in zip(first["models"], (tiny_pair.draft, tiny_pair.target), strict=True):
        files = {path.name: path.read_bytes() for path in Path(model["folder"]).iterdir()}
        assert files == {path.name: path.read_bytes() for path in source.iterdir()}  # no code, no pickle
    weights = hub.fetched(WEIGHTS)
    again = document(run("pull", "small", *OPTIONS, "--json"))
    assert [model["fetched_bytes"] for model in again["models"]] == [0, 0]
    assert hub.fetched(WEIGHTS) == weights == 2


def test_hub_ids_run_without_a_network_once_they_are_here(
    run: Run, process: Process, hub: Hub, photographs: Path, tmp_path: Path
) -> None:
    settings = ("run", *OPTIONS, "--data", photographs, "--images", "1", "--max-new-tokens", "4", "--json")
    before = process(*settings)
    assert before.returncode == 3
    assert "`aiflow pull Tiny/" in one_line(before)
    assert not hub.requests  # only pull asks the hub
    assert run("pull", "small", *OPTIONS).exit_code == 0
    cache = tmp_path / "hf" / "hub"
    (cache / "models--Tiny--Target" / "refs" / "main").write_text(COMMIT + "\n")  # as by hand
    shutil.rmtree(cache / "models--Tiny--Draft" / "refs")
    asked = len(hub.requests)
    finished = process(*settings, HF_HUB_OFFLINE="1")
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["pairs"][0]["target"] == "Target"
    assert len(hub.requests) == asked


def test_offline_is_fine_with_what_is_here(run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    document(run("pull", "Tiny/Target", "--json"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    assert document(run("pull", "Tiny/Target", "--json"))["models"][0]["fetched_bytes"] == 0
    assert len(hub.requests) == asked


def test_broken_download_goes_on_in_the_next_call(run: Run, hub: Hub, tmp_path: Path) -> None:
    """What came before the break is kept and asked for by range; the whole is compared with the hub's sha256."""
    size = (hub.folders["Tiny/Target"] / WEIGHTS).stat().st_size
    hub.faults[WEIGHTS] = ["cut", *["503"] * 20]
    reason = error(run("pull", "Tiny/Target"), 1)
    assert "broke off" in reason
    assert "run the same command again" in reason
    partial = next((tmp_path / "hf").rglob("*.partial"))
    assert partial.stat().st_size == size // 2
    hub.faults.clear()
    hub.ranges.clear()
    found = document(run("pull", "Tiny/Target", "--json"))
    assert hub.ranges == [f"bytes={size // 2}-"]
    assert found["models"][0]["fetched_bytes"] < size
    assert (snapshot(tmp_path) / WEIGHTS).read_bytes() == (hub.folders["Tiny/Target"] / WEIGHTS).read_bytes()
    assert not list((tmp_path / "hf").rglob("*.partial"))


def test_short_breaks_are_not_even_noticed(run: Run, hub: Hub) -> None:
    hub.faults[WEIGHTS] = ["cut", "cut", "cut"]
    document(run("pull", "Tiny/Target", "--json"))
    assert len(hub.ranges) == 3


def test_server_without_ranges(run: Run, hub: Hub, tmp_path: Path) -> None:
    hub.knows_ranges = False
    hub.faults[WEIGHTS] = ["cut"]
    document(run("pull", "Tiny/Target", "--json"))
    assert (snapshot(tmp_path) / WEIGHTS).read_bytes() == (hub.folders["Tiny/Target"] / WEIGHTS).read_bytes()


@pytest.mark.parametrize("fault", ["slow", "silent"])
def test_interrupted_download_keeps_what_came(
    environment: dict[str, str], run: Run, hub: Hub, tmp_path: Path, fault: str
) -> None:
    """At once, also if the hub says nothing more."""
    hub.faults[WEIGHTS] = [fault]
    process = subprocess.Popen([*AIFLOW, "pull", "Tiny/Target"], env=environment, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: [p for p in (tmp_path / "hf").rglob("*.partial") if p.stat().st_size > 0], "the first bytes")
    process.send_signal(signal.SIGINT)
    began, errors = time.monotonic(), ""
    assert process.stderr is not None
    while "interrupted" not in errors and (line := process.stderr.readline()):
        errors += line
    assert time.monotonic() - began < POLICY.timeout_s / 2
    errors += process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    assert not snapshot(tmp_path).exists()
    hub.ranges.clear()
    document(run("pull", "Tiny/Target", "--json"))
    assert hub.ranges


def test_wrong_bytes_are_refused(run: Run, hub: Hub, tmp_path: Path) -> None:
    hub.faults[WEIGHTS] = ["wrong"]
    assert "arrived damaged" in error(run("pull", "Tiny/Target"), 1)
    document(run("pull", "Tiny/Target", "--json"))


def test_checkpoint_that_is_none_is_named_at_once(run: Run, hub: Hub) -> None:
    (hub.folders["Tiny/Target"] / "config.json").write_text('{"model_type": "bert"}')
    assert "model of type 'bert'" in error(run("pull", "Tiny/Target"), 1)


def test_errors_of_the_hub(run: Run, hub: Hub) -> None:
    assert "there is no repository Tiny/Nowhere" in error(run("pull", "Tiny/Nowhere"), 2)
    assert "no revision 'v9'" in error(run("pull", "Tiny/Target@v9"), 2)
    hub.gated = True
    assert "HF_TOKEN" in error(run("pull", "Tiny/Target"), 3)


def test_no_network(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "from http://127.0.0.1:9 broke off" in error(run("pull", "Tiny/Target"), 1)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "unset HF_HUB_OFFLINE" in error(run("pull", "Tiny/Target"), 3)


def test_space_is_checked_before(run: Run, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiflow_cli.models.pull.SPARE_BYTES", 10**15)
    reason = error(run("pull", "Tiny/Target"), 1)
    assert "GB free: free some, or set HF_HOME" in reason
    assert not any("/resolve/" in request for request in hub.requests)


def test_disk_that_fills_up_all_the_same(process: Process) -> None:
    """A limit on the size of files stands in for a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    full = process("pull", "Tiny/Target", limit=limit)
    assert full.returncode == 1
    assert "no space left" in one_line(full)


def test_pinned_revision(run: Run, hub: Hub, tmp_path: Path) -> None:
    found = document(run("pull", f"Tiny/Target@{COMMIT}", "--json"))
    assert found["models"][0]["folder"] == str(snapshot(tmp_path))


def test_dry_run_fetches_nothing(run: Run, hub: Hub) -> None:
    found = document(run("pull", "Tiny/Target", "--dry-run", "--json"))
    model = found["models"][0]
    assert model["missing_bytes"] == model["total_bytes"] > (hub.folders["Tiny/Target"] / WEIGHTS).stat().st_size
    assert not any("/resolve/" in request for request in hub.requests)


def test_small_ships_with_the_package(run: Run, hub: Hub) -> None:
    finished = run("pull", "small")
    assert finished.exit_code == 0
    assert "ships with the package" in finished.stdout
    assert not hub.requests


def test_a_folder_that_is_not_there_is_no_model(run: Run, tmp_path: Path) -> None:
    assert "gone does not exist" in error(run("pull", "small", "--draft", tmp_path / "gone"), 2)


def test_unknown_pair(run: Run) -> None:
    assert "did you mean 'internvl2-2b-26b'" in error(run("pull", "internvl2-2b-26"), 2)


@pytest.mark.usefixtures("run")
def test_missing_pair_names_the_command(hub: Hub) -> None:
    with pytest.raises(
        PrerequisiteError, match="26B, is not on this machine: fetch it with `aiflow pull internvl2-2b-26b`"
    ):
        find_pair("internvl2-2b-26b").folder("target")
    with pytest.raises(
        PrerequisiteError, match="neither a folder nor on this machine: fetch it with `aiflow pull My/Own`"
    ):
        find_pair("internvl2-2b-26b", draft="My/Own").folder("draft")
    assert not hub.requests


def test_names_of_repositories() -> None:
    assert Repository.parse("OpenGVLab/InternVL2-2B") == Repository("OpenGVLab/InternVL2-2B")
    assert Repository.parse("a/b@refs/pr/1") == Repository("a/b", "refs/pr/1")
    assert not any(map(Repository.parse, ("a", "a/b/c", "./a/b", "/a/b", "../a", "a/", "a b/c", "a/b@../../c")))
    assert display_name(Path("/x/models--Open--Intern-2B/snapshots/0123")) == "Intern-2B"
    assert display_name(Path("/x/small-target")) == "small-target"
