"""What may stand beside trials made before, and what is refused: each change is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from aiflow_cli.errors import UsageError
from aiflow_cli.trials.experiment import earlier_trials, open_experiment
from aiflow_cli.trials.fingerprint import checkpoint, differences
from aiflow_cli.trials.run import run_experiment
from aiflow_cli.trials.store import read_run, read_trials, rewrite_trials, write_run
from tests.conftest import TinyPair, photograph
from tests.trials.sweeps import read_spec, silent


@pytest.mark.parametrize(
    ("override", "named"),
    [("seed=1", "spec"), ("max_new_tokens=9", "spec"), ("images=2", "data"), ("link.delay=1ms", "spec")],
)
def test_a_changed_spec_is_refused(
    copy: Path, tiny_pair: TinyPair, photographs: Path, tmp_path: Path, override: str, named: str
) -> None:
    sweep = open_experiment(read_spec(tmp_path, tiny_pair, photographs, override), copy)
    with pytest.raises(UsageError, match=rf"{named}: \w{{8}} before, \w{{8}} now.*--restart.*--allow-mixed"):
        run_experiment(sweep, silent)


def test_another_order_cannot_be_mixed_even_if_allowed(
    copy: Path, tiny_pair: TinyPair, photographs: Path, tmp_path: Path
) -> None:
    sweep = open_experiment(read_spec(tmp_path, tiny_pair, photographs, "seed=1"), copy, allow_mixed=True)
    with pytest.raises(UsageError, match="orders trials otherwise"):
        run_experiment(sweep, silent)


def test_a_changed_pair_is_refused(copy: Path, tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tiny_pair.draft, tmp_path / "draft"))
    same = open_experiment(read_spec(tmp_path, tiny_pair, photographs, f"checkpoints.small.draft={other}"), copy)
    assert same.fingerprints["pair small"] == read_run(copy)["fingerprints"]["pair small"]
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    changed = open_experiment(read_spec(tmp_path, tiny_pair, photographs, f"checkpoints.small.draft={other}"), copy)
    with pytest.raises(UsageError, match="pair small: "):
        earlier_trials(changed)


def test_changed_data_are_refused(copy: Path, tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(photographs, tmp_path / "photographs"))
    (other / "photo1.jpg").write_bytes(photograph(9))
    sweep = open_experiment(read_spec(tmp_path, tiny_pair, other), copy)
    with pytest.raises(UsageError, match="data: "):
        earlier_trials(sweep)


def test_changed_code_is_refused_unless_allowed_and_then_noted(
    copy: Path, tiny_pair: TinyPair, photographs: Path, tmp_path: Path
) -> None:
    """The result is made to look as if other sources had made its first half."""
    run, trials = read_run(copy), read_trials(copy)
    run["fingerprints"]["code"] = "0" * 64
    run["provenance"]["finished_at"] = None
    write_run(copy, run)
    rewrite_trials(copy, trials[: len(trials) // 2])
    spec = read_spec(tmp_path, tiny_pair, photographs)
    with pytest.raises(UsageError, match="code: 00000000 before"):
        run_experiment(open_experiment(spec, copy), silent)
    result = run_experiment(open_experiment(spec, copy, allow_mixed=True), silent)
    half = len(trials) // 2
    assert [t.trial for t in result.trials[:half]] == [t.trial for t in trials[:half]]
    assert {t.trial for t in result.measured} == {t.trial for t in trials if not t.warmup}
    assert len({t.trial for t in result.trials}) == len(result.trials)
    (mixed,) = read_run(copy)["mixed"]
    assert mixed["trials_before"] == len(trials) // 2
    assert mixed["changed"][0].startswith("code: 00000000 before")
    assert earlier_trials(open_experiment(spec, copy))  # from now on these are its sources


@pytest.mark.parametrize("lacking", ["spec", "fingerprints", "pairs", "provenance"])
def test_a_result_of_another_command_is_refused(
    copy: Path, tiny_pair: TinyPair, photographs: Path, tmp_path: Path, lacking: str
) -> None:
    run = read_run(copy)
    del run[lacking]
    write_run(copy, run)
    sweep = open_experiment(read_spec(tmp_path, tiny_pair, photographs), copy, allow_mixed=True)
    with pytest.raises(UsageError, match="no result of an experiment"):
        run_experiment(sweep, silent)


def test_a_card_does_not_change_a_checkpoint(tiny_pair: TinyPair, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_pair.draft, tmp_path / "draft"))
    (folder / "README.md").write_text("another card")
    assert checkpoint(folder) == checkpoint(tiny_pair.draft)


def test_differences_name_both_sides() -> None:
    before: dict[str, Any] = {"code": "a" * 64, "machine": "one", "old": "x"}
    assert differences(before, {"code": "b" * 64, "machine": "one", "new": "y"}) == [
        "code: aaaaaaaa before, bbbbbbbb now",
        "old: x before, none now",
        "new: none before, y now",
    ]
