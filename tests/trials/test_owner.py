"""One output, one owner: no two results in one folder, and no failed start that keeps the next one out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aiflow_cli.errors import AiflowError, StoreError, UsageError
from aiflow_cli.trials.plan import earlier_times
from aiflow_cli.trials.run import Step, run_trials
from aiflow_cli.trials.settings import RunSettings, make_settings
from aiflow_cli.trials.store import read_run, read_trials
from aiflow_cli.trials.sweep import open_sweep, run_sweep
from tests.conftest import TinyPair
from tests.trials.sweeps import read_spec


@pytest.fixture
def settings(tiny_pair: TinyPair, photographs: Path) -> RunSettings:
    return make_settings(
        target=str(tiny_pair.target),
        draft=str(tiny_pair.draft),
        data=str(photographs),
        images=1,
        max_new_tokens=2,
        warmups=0,
        uplink_bytes_per_s=None,
        downlink_bytes_per_s=None,
    )


def silent(_: Step) -> None:
    pass


class EndedError(Exception):
    """A run is ended as it starts."""


def at_start(act: Callable[[], object]) -> Callable[[Step], None]:
    """Act when processes are about to start, and go no further."""

    def show(_: Step) -> None:
        act()
        raise EndedError

    return show


def test_a_run_into_the_folder_of_a_starting_one(settings: RunSettings, tmp_path: Path) -> None:
    def other() -> None:
        with pytest.raises(StoreError, match="another aiflow is writing into"):
            run_trials(settings, tmp_path, silent)

    with pytest.raises(EndedError):
        run_trials(settings, tmp_path, at_start(other))


def test_a_run_and_a_sweep_into_one_folder(
    settings: RunSettings, tiny_pair: TinyPair, photographs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "result"
    sweep = open_sweep(read_spec(tmp_path, tiny_pair, photographs, "link.delay=0"), folder)

    def other_run() -> None:
        before = (folder / "run.json").read_bytes()
        with pytest.raises(StoreError, match="another aiflow is writing into"):
            run_trials(settings, folder, silent)
        assert (folder / "run.json").read_bytes() == before

    def other_sweep() -> None:
        with pytest.raises(StoreError, match="another aiflow is writing into"):
            run_sweep(sweep, silent)

    with pytest.raises(EndedError):
        run_sweep(sweep, at_start(other_run))
    with pytest.raises(EndedError):  # a sweep that ended without a trial left nothing to keep
        run_trials(settings, folder, at_start(other_sweep))
    assert read_run(folder)["name"] == "run"
    with pytest.raises(EndedError):  # and neither did this run
        run_sweep(sweep, at_start(lambda: None))
    assert read_run(folder)["name"] == "tiny"


def test_a_start_that_fails_does_not_refuse_the_next(settings: RunSettings, tmp_path: Path) -> None:
    folder = tmp_path / "result"
    with pytest.raises(AiflowError, match=r"127\.0\.0\.1:1"):
        run_trials(settings.model_copy(update={"server": "127.0.0.1:1"}), folder, silent)
    result = run_trials(settings, folder, silent)
    assert read_trials(folder) == result.records
    with pytest.raises(StoreError, match="already holds a result"):
        run_trials(settings, folder, silent)
    assert read_trials(folder) == result.records


def test_a_sweep_does_not_go_on_in_a_run(
    settings: RunSettings, tiny_pair: TinyPair, photographs: Path, tmp_path: Path
) -> None:
    (tmp_path / "trials.jsonl").write_text('{"trial": "0000-000-server-only"}\n')
    (tmp_path / "run.json").write_text("{}\n")
    sweep = open_sweep(read_spec(tmp_path, tiny_pair, photographs), tmp_path)
    with pytest.raises(UsageError, match="holds no result of a sweep"):
        run_sweep(sweep, silent)
    (tmp_path / "run.json").write_text('{"spec": {}}\n')
    with pytest.raises(UsageError, match="made otherwise"):
        run_sweep(sweep, silent)
    (tmp_path / "run.json").unlink()
    with pytest.raises(StoreError, match=r"cannot read .*run\.json"):
        run_sweep(sweep, silent)


def test_a_plan_passes_over_whatever_else_lies_beside(tmp_path: Path) -> None:
    for name, run, trials in (
        ("odd", '{"fingerprints": {"machine": "here", "pair None": "1"}}', "{}"),
        ("torn", '{"fingerprints": {"machine": "here"}}', "{"),
        ("list", "[]", "{}"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(run)
        (tmp_path / name / "trials.jsonl").write_text(trials + "\n")
    (tmp_path / "file").touch()
    assert earlier_times(tmp_path / "mine", {"machine": "here", "pair None": "1"}) == {}
