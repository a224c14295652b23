"""`aiflow run`, end to end: what it prints, what it writes, and that it leaves nothing behind."""

from __future__ import annotations

import json
import signal
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiflow_cli.decoding.methods import Method
from aiflow_cli.models.pair import find_pair
from aiflow_cli.trials import fingerprint
from aiflow_cli.trials.store import read_trials
from tests.conftest import TinyPair
from tests.e2e.tools import Background, aiflow, assert_gone, descendants, finished_trials, method_of, wait_for

PARTS = ("draft_s", "encode_s", "network_s", "queue_s", "verify_s", "apply_s")


@pytest.fixture(scope="module")
def result(
    tiny_pair: TinyPair, photographs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """All four methods over three photographs."""
    folder = tmp_path_factory.mktemp("run") / "result"
    methods = ("-m", "speculative", "-m", "co-located", "-m", "on-device", "-g", "1", "-g", "4", "-g", "64")
    options = (*tiny_pair.options, *methods, "--data", photographs, "--max-new-tokens", "40", "--output", folder)
    finished = aiflow("run", *options, "--json")
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout), folder


def test_document_has_every_method_and_all_are_identical(result: tuple[dict[str, Any], Path]) -> None:
    document, folder = result
    assert document["schema_version"] == 2
    assert document["result"] == str(folder)
    assert document["links"][0]["uplink_bytes_per_s"] == 1e6
    (group,) = document["groups"]
    methods = {(m["method"], m["gamma"]): m for m in group["methods"]}
    drafting = {(name, gamma) for name in ("speculative", "co-located") for gamma in (1, 4, 64)}
    assert set(methods) == {("server-only", None), ("on-device", None), *drafting}
    for (name, _), m in methods.items():
        assert m["trials"] == 3
        assert m["identical"] == (None if name in ("server-only", "on-device") else 3)
        assert m["latency_per_token_ms"] > 0
        assert m["tokens"] > 0
        assert m["ttft_ms"] > m["latency_per_token_ms"]
    four = methods["speculative", 4]
    assert four["speedup"] > 0
    assert (four["images"], four["speedup_ci"], four["latency_per_token_ci"]) == (3, None, None)
    assert four["no_intervals"] == "3 images: too few for an interval, which needs at least 10"
    assert 1 <= methods["speculative", 4]["tokens_per_round"] <= 5
    assert [image["image_id"] for image in document["images"]] == ["photo0.jpg", "photo1.jpg", "photo2.jpg"]
    captions = document["images"][0]["captions"]
    assert captions["speculative-4"] == captions["server-only"] == captions["co-located-64"]


def test_trials_are_on_disk_with_their_rounds(result: tuple[dict[str, Any], Path]) -> None:
    _, folder = result
    trials = finished_trials(folder)
    measured = [t for t in trials if not t["warmup"]]
    assert len(measured) == 3 * 8
    assert len(trials) == len(measured) + 2 * 8
    for r in (r for trial in trials for r in trial["rounds"]):
        assert r["accepted"] <= r["judged"] <= min(r["drafted"], r["accepted"] + 1)
    assert len({t["trial"] for t in trials}) == len(trials)
    for trial in read_trials(folder):
        assert trial.n_tokens == sum(came.n_tokens for came in trial.deliveries)
        assert trial.n_tokens - trial.first_tokens == sum(r.delivered for r in trial.rounds) or (
            trial.setting.method in (Method.SERVER_ONLY, Method.ON_DEVICE)
        )
        assert 0 < trial.ttft_s <= trial.latency_s


def test_parts_of_a_round_sum_to_its_wall_time(result: tuple[dict[str, Any], Path]) -> None:
    _, folder = result
    rounds = [r for t in finished_trials(folder) if method_of(t) == "speculative" for r in t["rounds"]]
    gaps = [abs(sum(r[part] for part in PARTS) - r["wall_s"]) / r["wall_s"] for r in rounds]
    assert statistics.median(gaps) < 0.02


def test_a_round_of_four_drafts_is_small_on_the_wire(result: tuple[dict[str, Any], Path]) -> None:
    _, folder = result
    rounds = [r for t in finished_trials(folder) if t["setting"]["gamma"] == 4 for r in t["rounds"]]
    assert max(r["bytes_up"] for r in rounds) <= 40
    assert max(r["bytes_down"] for r in rounds) <= 40


def test_provenance_stands_beside_the_trials(result: tuple[dict[str, Any], Path]) -> None:
    document, folder = result
    run = json.loads((folder / "run.json").read_text())
    assert run["provenance"]["command"][1] == "run"
    assert run["provenance"]["finished_at"] >= run["provenance"]["started_at"]
    assert run["provenance"]["packages"]["torch"]
    assert run["data"] == document["data"]
    assert run["data"]["images"] == 3


def test_what_the_server_runs_is_recorded(result: tuple[dict[str, Any], Path], tiny_pair: TinyPair) -> None:
    document, _ = result
    told = document["pairs"][0]["server"]
    assert (told["target"], told["draft"], told["dtype"]) == ("target", "draft", "float32")
    assert told["target_sha256"] == fingerprint.checkpoint(tiny_pair.target)
    assert told["draft_sha256"] == fingerprint.checkpoint(tiny_pair.draft)
    pair = find_pair("small", str(tiny_pair.draft), str(tiny_pair.target))
    assert document["pairs"][0]["fingerprint"] == fingerprint.pair(pair)


def test_where_a_draft_model_was_prefilled(result: tuple[dict[str, Any], Path]) -> None:
    _, folder = result
    trials = [t for t in finished_trials(folder) if method_of(t) in ("speculative", "co-located") and t["rounds"]]
    assert all(t["prefill"]["draft_s"] > 0 for t in trials)
    on_server = [t for t in trials if method_of(t) == "co-located"]
    assert all(sum(part or 0 for part in t["prefill"].values()) <= t["deliveries"][0][0] + 1e-6 for t in on_server)


def test_table_shows_identity_and_why_there_are_no_intervals(
    tiny_pair: TinyPair, photographs: Path, tmp_path: Path
) -> None:
    options = (*tiny_pair.options, "--data", photographs, "--max-new-tokens", "8", "--rate", "unlimited")
    finished = aiflow("run", *options, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "speculative" in finished.stdout
    assert "3/3" in finished.stdout
    assert "decode TPOT = " in finished.stdout
    assert "tokens per round = tokens that rounds delivered / rounds" in finished.stdout
    assert "No intervals: 3 images: too few for an interval, which needs at least 10." in finished.stdout
    assert "nan" not in finished.stdout
    assert "trials: results/" in finished.stdout
    assert "trials: 6/6" in finished.stderr  # progress, apart from the data, and warm-ups aside


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)], ids=str
)
def test_nothing_outlives_the_command(
    number: signal.Signals,
    code: int,
    tiny_pair: TinyPair,
    photographs: Path,
    tmp_path: Path,
    background: Callable[..., Background],
) -> None:
    folder = tmp_path / "result"
    options = (*tiny_pair.options, "--data", photographs, "--repeats", "500", "--output", folder)
    command = background("run", *options, cwd=tmp_path)
    wait_for(lambda: len(finished_trials(folder)) > 3, "the first trials")
    children = descendants(command.process.pid)
    assert len(children) >= 2  # the server and the link
    returned, errors = command.signal(number)
    assert returned == code
    assert "Traceback" not in errors
    assert_gone(children)
    assert len(finished_trials(folder)) > 3
