"""`aiflow sweep` as its users start it: plans, tables, and that no way to end it loses or doubles a trial."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from aiflow_cli.cli.app import app
from aiflow_cli.trials.store import owned
from tests.conftest import TinyPair
from tests.e2e.tools import (
    Background,
    aiflow,
    assert_gone,
    descendants,
    files_limited_to,
    finished_trials,
    method_of,
    one_line,
)
from tests.trials.sweeps import BLOCK, IMAGES, write_spec

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
TRIALS = IMAGES * BLOCK
WARMUPS = BLOCK - 2
PATIENCE_S = 200.0


@contextlib.contextmanager
def running(*arguments: str | Path) -> Iterator[Background]:
    """A command that runs meanwhile, and not longer."""
    background = Background(*arguments)
    try:
        yield background
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(background.process.pid, signal.SIGKILL)
        background.process.communicate()


@pytest.fixture(scope="module")
def spec(tiny_pair: TinyPair, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spec(tmp_path_factory.mktemp("spec"), tiny_pair, photographs)


@pytest.fixture(scope="module")
def unbroken(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A sweep that nothing disturbs: its folder and its document."""
    folder = tmp_path_factory.mktemp("unbroken") / "result"
    finished = aiflow("sweep", spec, "--output", folder, "--json")
    assert finished.returncode == 0, finished.stderr
    return folder, json.loads(finished.stdout)


def invoke(*arguments: str | Path) -> Result:
    """A command that starts nothing, within this process."""
    return CliRunner().invoke(app, [*map(str, arguments)])


def outputs(folder: Path) -> list[tuple[str, list[int]]]:
    """Name and output of every measured trial, in the order of names: doubles would show."""
    return sorted((t["trial"], t["tokens"]) for t in finished_trials(folder) if not t["warmup"])


def measured(folder: Path) -> int:
    return sum(not t["warmup"] for t in finished_trials(folder))


def break_off(spec: Path, folder: Path, number: signal.Signals, at_least: int, after_s: float = 0.0) -> int:
    """Start or continue, send `number` when so many trials are there, and check the end. How many are there then."""
    with running("sweep", spec, "--output", folder) as sweep:
        deadline = time.monotonic() + PATIENCE_S
        while sweep.process.poll() is None and measured(folder) < at_least:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(after_s)
        children = descendants(sweep.process.pid)
        over = sweep.process.poll() is not None
        code, errors = sweep.end() if over else sweep.signal(number)
    assert_gone(children)
    if code == 0:  # it was faster
        assert measured(folder) == TRIALS
        return TRIALS
    if code == -number and number is not signal.SIGKILL:  # so early that the program was not there yet to answer
        return measured(folder)
    assert code == CODES[number], errors
    assert "Traceback" not in errors
    if not (folder / "trials.jsonl").exists():
        return 0
    for line in (folder / "trials.jsonl").read_bytes().splitlines(keepends=True):
        assert line.endswith(b"\n")
        json.loads(line)
    kept = measured(folder)
    if errors.startswith("trials: ") and number is not signal.SIGKILL and kept < TRIALS:  # it was past its start
        assert f"{kept} of {TRIALS} trials are in {folder}: the same command goes on there" in errors or not kept
    return kept


def test_document_and_tables(spec: Path, unbroken: tuple[Path, dict[str, Any]]) -> None:
    folder, document = unbroken
    assert document["result"] == str(folder)
    assert document["spec"]["gammas"]["speculative"] == [2, 5]
    assert [group["link"]["delay_s"] for group in document["groups"]] == [0.0, 0.02]
    for group in document["groups"]:
        for method in group["methods"]:
            expected = None if method["method"] == "on-device" else method["compared"]
            assert method["identical"] == expected
        assert group["methods"][0]["trials"] == 2 * IMAGES
    again = invoke("sweep", spec, "--output", folder)
    assert again.exit_code == 0
    assert "pair small, 1 MB/s, delay 20 ms, burst 10 KB" in again.stdout
    assert "decode TPOT = " in again.stdout
    assert again.stderr == ""  # nothing was left to do


def fill_disk(spec: Path, folder: Path, size: int) -> int:
    """Continue until trials.jsonl may grow no more. How many are there then."""
    with files_limited_to(size):
        full = aiflow("sweep", spec, "--output", folder)
    assert full.returncode == 1
    assert "no space left to write" in one_line(full)
    kept = measured(folder)
    mine = kept - sum(t["trial"].startswith("9") for t in finished_trials(folder))
    assert f"{mine} of {TRIALS} trials are in {folder}: the same command goes on there" in full.stderr
    return kept


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGKILL, signal.SIGTERM),
        pytest.param((signal.SIGINT, None, signal.SIGKILL), marks=pytest.mark.slow),
    ],
    ids=("kill, terminate", "interrupt, full disk, kill"),
)
def test_a_sweep_broken_off_equals_an_unbroken_one(
    spec: Path, unbroken: tuple[Path, dict[str, Any]], tmp_path: Path, numbers: tuple[signal.Signals | None, ...]
) -> None:
    folder, rng = tmp_path / "result", random.Random(11)
    kept = [0]
    for number in numbers:
        if number is None:
            room = (unbroken[0] / "trials.jsonl").stat().st_size * (WARMUPS + 6) // (WARMUPS + TRIALS)
            kept.append(fill_disk(spec, folder, (folder / "trials.jsonl").stat().st_size + room))
        else:
            kept.append(break_off(spec, folder, number, kept[-1] + rng.randint(1, 6), rng.uniform(0, 0.1)))
    assert kept == sorted(set(kept))
    assert kept[-1] < TRIALS
    finished = aiflow("sweep", spec, "--output", folder, "--json")
    assert finished.returncode == 0, finished.stderr
    assert outputs(folder) == outputs(unbroken[0])
    document = json.loads(finished.stdout)
    assert len(document["sessions"]) == len(numbers) + 1
    assert document["mixed"] == []
    names = [t["trial"] for t in finished_trials(folder)]
    assert len(names) == len(set(names))  # warm-ups of later sessions have names of their own
    assert (folder / "trials.parquet").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_breaks_at_any_moment(spec: Path, unbroken: tuple[Path, dict[str, Any]], tmp_path: Path, seed: int) -> None:
    """While processes start, between trials, within one, while outputs are judged: until nothing is left to do."""
    folder, kept = tmp_path / "result", 0
    rng = random.Random(seed)
    for _ in range(8):
        now = break_off(spec, folder, rng.choice(list(CODES)), kept + rng.choice([-1, 1, 5]), rng.uniform(0, 8))
        assert now >= kept
        kept = now
    assert aiflow("sweep", spec, "--output", folder).returncode == 0
    assert outputs(folder) == outputs(unbroken[0])


def test_a_wrong_output_fails_the_sweep(spec: Path, unbroken: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """One token of one trial is changed in a result that is still to be judged."""
    folder = Path(shutil.copytree(unbroken[0], tmp_path / "result"))
    run = json.loads((folder / "run.json").read_text())
    run["provenance"]["finished_at"] = None
    (folder / "run.json").write_text(json.dumps(run))
    trials = [t | {"identical": None} for t in finished_trials(folder)]
    wrong = next(t for t in trials if method_of(t) == "speculative" and not t["warmup"])
    wrong["tokens"][0] += 1
    (folder / "trials.jsonl").write_text("".join(json.dumps(t) + "\n" for t in trials))
    finished = aiflow("sweep", spec, "--output", folder)
    assert finished.returncode == 1
    assert (
        f"defect: speculative gamma {wrong['setting']['gamma']} differs on image {wrong['image_id']}" in finished.stderr
    )
    again = invoke("sweep", spec, "--output", folder, "--json")  # and it stays so
    assert again.exit_code == 1
    wrongs = [
        m["compared"] - m["identical"]
        for g in json.loads(again.stdout)["groups"]
        for m in g["methods"]
        if m["identical"] is not None
    ]
    assert sum(wrongs) == 1


def test_a_refusal_does_not_promise_to_go_on(spec: Path, unbroken: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(unbroken[0], tmp_path / "result"))
    for options, said in (
        (("--set", "max_new_tokens=9"), "made otherwise"),
        (("--restart",), "restart in another --output"),
        ((), "another aiflow is writing into"),
    ):
        with owned(folder) if not options else contextlib.nullcontext():
            refused = invoke("sweep", spec, "--output", folder, *options)
        assert refused.exit_code in (1, 2)
        assert refused.stderr.startswith("error: ")
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert outputs(folder) == outputs(unbroken[0])


def test_trials_of_another_plan_are_not_counted(
    spec: Path, unbroken: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(unbroken[0], tmp_path / "result"))
    mine = finished_trials(folder)
    others = [trial | {"trial": f"9{trial['trial']}"} for trial in mine if not trial["warmup"]]
    kept = [trial for trial in mine if trial["warmup"]] + [trial for trial in mine if not trial["warmup"]][:-2]
    (folder / "trials.jsonl").write_text("".join(json.dumps(t) + "\n" for t in [*others, *kept]))
    full = fill_disk(spec, folder, (folder / "trials.jsonl").stat().st_size)
    assert full == TRIALS - 2 + len(others)


def test_dry_run_prints_the_plan_and_writes_nothing(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("sweep", spec, "--set", "link.rate=2MB/s", "--dry-run")
    plain = invoke(*options)
    assert plain.exit_code == 0, plain.output
    assert "2 MB/s, delay 20 ms" in plain.stdout
    assert f"{TRIALS}, of which 0 are done" in plain.stdout
    assert f"{TRIALS} by a formula with assumed speeds" in plain.stdout
    plan = json.loads(invoke(*options, "--json").stdout)["plan"]
    assert (plan["trials"], plan["done"], plan["missing"]) == (TRIALS, 0, [])
    assert list(tmp_path.iterdir()) == []


def test_the_plan_of_the_papers_set_up_needs_neither_weights_nor_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIFLOW_DATA", raising=False)
    finished = invoke("sweep", "internvl2", "--dry-run")
    assert finished.exit_code == 0, finished.output
    assert "627 images of vehicles-openimage" in finished.stdout
    assert "aiflow download" in finished.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nothing",), 2, "no experiment 'nothing'"),
        (("quick", "--set", "link.rate=2"), 2, "--set link.rate=2: link.rate: '2' is not a rate"),
    ],
)
def test_wrong_use_is_one_line(arguments: tuple[str, ...], code: int, words: str) -> None:
    finished = invoke("sweep", *arguments)
    assert finished.exit_code == code
    assert words in finished.stderr
    assert finished.stderr.count("\n") == 1
