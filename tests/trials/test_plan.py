"""The plan of a dry run: what is done, what is missing, how long the rest takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiflow_cli.trials.plan import earlier_times, plan_experiment
from aiflow_cli.trials.store import read_trials, rewrite_trials
from tests.conftest import TinyPair
from tests.trials.sweeps import BLOCK, IMAGES, read_spec


def test_the_plan_knows_what_is_done_and_how_long_it_took(
    copy: Path, tiny_pair: TinyPair, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = read_spec(tmp_path, tiny_pair, photographs)
    plan = plan_experiment(spec, copy)
    assert (plan.trials, plan.done, plan.seconds) == (IMAGES * BLOCK, IMAGES * BLOCK, 0.0)
    trials = read_trials(copy)
    rewrite_trials(copy, trials[:-4])
    plan = plan_experiment(spec, copy)
    assert (plan.done, plan.measured, plan.assumed) == (IMAGES * BLOCK - 4, 4, 0)
    fresh = plan_experiment(spec, tmp_path / "elsewhere" / "result")
    assert (fresh.done, fresh.measured, fresh.assumed) == (0, 0, IMAGES * BLOCK)
    beside = plan_experiment(spec, tmp_path / "another")
    assert (beside.measured, beside.assumed) == (IMAGES * BLOCK, 0)
    assert plan.seconds is not None
    assert beside.seconds is not None
    assert beside.seconds > plan.seconds
    assert not (tmp_path / "another").exists()
    (tmp_path / "results").mkdir()
    copy.rename(tmp_path / "results" / "before")
    assert plan_experiment(spec, tmp_path / "elsewhere" / "result").measured == IMAGES * BLOCK


def test_the_plan_names_what_is_missing(tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    absent = read_spec(tmp_path, tiny_pair, photographs, "checkpoints.small.target=/nowhere", "images=2")
    plan = plan_experiment(absent, tmp_path / "result")
    assert plan.trials == 2 * BLOCK
    assert len(plan.missing) == 1
    assert "/nowhere does not exist" in plan.missing[0]


def test_a_longer_round_trip_is_planned_longer(tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    def seconds(*overrides: str) -> float:
        found = plan_experiment(read_spec(tmp_path, tiny_pair, photographs, *overrides), tmp_path / "a" / "b").seconds
        assert found is not None
        return found

    assert seconds("link.delay=0") < seconds("link.delay=50ms")
    assert seconds("link.rate=1MB/s") < seconds("link.rate=1KB/s")


def test_a_plan_passes_over_whatever_else_lies_beside(tmp_path: Path) -> None:
    for name, run, trials in (
        ("odd", '{"fingerprints": {"machine": "here", "pair None": "1"}}', "{}"),
        ("torn", '{"fingerprints": {"machine": "here"}}', "{"),
        ("list", "[]", "{}"),
        ("other", '{"fingerprints": [1]}', "{}"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(run)
        (tmp_path / name / "trials.jsonl").write_text(trials + "\n")
    (tmp_path / "file").touch()
    assert earlier_times(tmp_path / "mine", {"machine": "here", "pair None": "1"}) == {}
