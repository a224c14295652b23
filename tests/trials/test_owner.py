"""One output, one owner: no two results in one folder, and no failed start that keeps the next one out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aiflow_cli.errors import StoreError, UsageError
from aiflow_cli.trials.experiment import Experiment, open_experiment
from aiflow_cli.trials.run import Step, run_experiment
from aiflow_cli.trials.specfile import spec_of_options
from aiflow_cli.trials.store import read_run, read_trials
from tests.conftest import TinyPair
from tests.trials.sweeps import read_spec, silent
from tests.world.trials import trial


@pytest.fixture
def values(tiny_pair: TinyPair, photographs: Path) -> dict[str, Any]:
    """A small run, as options give it."""
    return {
        **{"name": "run", "about": "a test", "pairs": ["small"], "data": str(photographs), "images": 1},
        "checkpoints": {"small": {"draft": str(tiny_pair.draft), "target": str(tiny_pair.target)}},
        **{"max_new_tokens": 2, "warmups": 0, "link": {"rate": "unlimited"}},
    }


def opened(values: dict[str, Any], folder: Path, **others: Any) -> Experiment:
    return open_experiment(spec_of_options(values | others), folder, stamped=True)


class EndedError(Exception):
    """A run is ended as it starts."""


def at_start(act: Callable[[], object]) -> Callable[[Step], None]:
    """Act when processes are about to start, and go no further."""

    def show(_: Step) -> None:
        act()
        raise EndedError

    return show


def test_a_run_into_the_folder_of_a_starting_one(values: dict[str, Any], tmp_path: Path) -> None:
    def other() -> None:
        with pytest.raises(StoreError, match="another aiflow is writing into"):
            run_experiment(opened(values, tmp_path), silent)

    with pytest.raises(EndedError):
        run_experiment(opened(values, tmp_path), at_start(other))


def test_a_run_and_a_sweep_into_one_folder(
    values: dict[str, Any], tiny_pair: TinyPair, photographs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "result"
    sweep = open_experiment(read_spec(tmp_path, tiny_pair, photographs, "link.delay=0"), folder)

    def other_run() -> None:
        before = (folder / "run.json").read_bytes()
        with pytest.raises(StoreError, match="another aiflow is writing into"):
            run_experiment(opened(values, folder), silent)
        assert (folder / "run.json").read_bytes() == before

    def other_sweep() -> None:
        with pytest.raises(StoreError, match="another aiflow is writing into"):
            run_experiment(sweep, silent)

    with pytest.raises(EndedError):
        run_experiment(sweep, at_start(other_run))
    with pytest.raises(EndedError):  # a sweep that ended without a trial left nothing to keep
        run_experiment(opened(values, folder), at_start(other_sweep))
    assert read_run(folder)["name"] == "run"
    with pytest.raises(EndedError):  # and neither did this run
        run_experiment(sweep, at_start(lambda: None))
    assert read_run(folder)["name"] == "tiny"


def test_a_start_that_fails_does_not_refuse_the_next(values: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "result"
    with pytest.raises(EndedError):
        run_experiment(opened(values, folder, max_new_tokens=3), at_start(lambda: None))
    result = run_experiment(opened(values, folder), silent)
    assert read_trials(folder) == result.trials


def test_a_finished_run_is_shown_from_the_disk_and_another_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    result = run_experiment(opened(values, tmp_path), silent)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert run_experiment(opened(values, tmp_path), silent) == result
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    with pytest.raises(UsageError, match=r"holds 2 trials made otherwise \(spec: .*\): give another --output$"):
        run_experiment(opened(values, tmp_path, max_new_tokens=3), silent)
    assert read_trials(tmp_path) == result.trials


def test_what_is_no_result_of_an_experiment(
    values: dict[str, Any], tiny_pair: TinyPair, photographs: Path, tmp_path: Path
) -> None:
    (tmp_path / "trials.jsonl").write_bytes(msgspec.json.encode(trial()) + b"\n")
    sweep = open_experiment(read_spec(tmp_path, tiny_pair, photographs), tmp_path)
    for document in ("{}", '{"spec": {}}', '{"spec": {}, "pairs": [], "provenance": {}, "fingerprints": [1]}'):
        (tmp_path / "run.json").write_text(document)
        with pytest.raises(UsageError, match="holds no result of an experiment"):
            run_experiment(sweep, silent)
    (tmp_path / "run.json").write_text('{"spec": {}, "pairs": [], "provenance": {}, "fingerprints": {}}')
    with pytest.raises(UsageError, match="made otherwise"):
        run_experiment(sweep, silent)
    (tmp_path / "run.json").unlink()
    with pytest.raises(StoreError, match=r"cannot read .*run\.json"):
        run_experiment(sweep, silent)
