"""What becomes of a trial that fails: told, passed over, and made by the next call; and when an experiment gives up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aiflow_cli.errors import AiflowError, LinkError, UsageError
from aiflow_cli.trials.experiment import open_experiment
from aiflow_cli.trials.making import FAILURES, Failure, Maker
from aiflow_cli.trials.run import Step, run_experiment
from aiflow_cli.trials.schedule import Planned
from aiflow_cli.trials.store import read_run, read_trials
from aiflow_cli.world.record import Trial
from tests.conftest import TinyPair
from tests.trials.sweeps import read_spec
from tests.world.trials import trial


class Scripted:
    """A world that makes trials but for those with a name in `wrong`; in it the error stands."""

    def __init__(self, wrong: dict[str, AiflowError]) -> None:
        self.wrong, self.entered, self.left = wrong, 0, 0

    def __enter__(self) -> Scripted:
        self.entered += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.left += 1

    def trial(self, planned: Trial, image: bytes) -> Trial:
        if planned.trial in self.wrong:
            raise self.wrong[planned.trial]
        return planned.replace(caption=image.decode())


def plan(*names: str, method: str = "server-only") -> list[Planned]:
    return [Planned(trial(method, trial=name), b"a bus") for name in names]


def make(world: Scripted, warm: list[Planned], *names: str) -> list[str]:
    """What comes out, a failure in brackets."""
    made: list[str] = []
    with Maker(lambda: world, lambda times: warm) as maker:  # type: ignore[arg-type, return-value]
        for planned in plan(*names):
            for one in maker.make(planned):
                made.append(f"({one.trial})" if isinstance(one, Failure) else one.trial)
    assert world.left == world.entered
    return made


def test_what_fails_by_itself_leaves_the_world_as_it_is() -> None:
    world = Scripted({"b": UsageError("too long")})
    assert make(world, plan("warm"), "a", "b", "c") == ["warm", "a", "(b)", "c"]
    assert world.entered == 1


def test_a_link_that_broke_is_made_anew_and_warmed_up() -> None:
    world = Scripted({"b": LinkError("gone")})
    assert make(world, plan("warm"), "a", "b", "c") == ["warm", "a", "(b)", "warm", "c"]
    assert world.entered == 2


def test_a_warm_up_that_breaks_the_world_does_not_hold_up_the_others() -> None:
    world = Scripted({"bad": LinkError("gone")})
    warm = [*plan("good"), *plan("bad", method="on-device")]
    assert make(world, warm, "a", "b") == ["good", "good", "a", "b"]
    assert world.entered == 2


def test_several_in_a_row_are_no_matter_of_single_trials() -> None:
    wrong: dict[str, AiflowError] = {name: UsageError(name) for name in "abdef"}
    world = Scripted(wrong)
    with pytest.raises(UsageError, match="f"):
        make(world, [], *"abcdef")
    assert FAILURES == 3
    assert world.left == 1


def test_failures_are_on_the_disk_at_once_and_the_next_call_makes_what_is_lacking(
    tiny_pair: TinyPair, tmp_path: Path, photographs: Path
) -> None:
    """Every second image is torn after it was checked."""
    overrides = ("link.delay=0", "gammas=2", "server_only_per_block=1", "methods=server-only", "warmups=0")
    spec = read_spec(tmp_path, tiny_pair, photographs, *overrides)
    opened = open_experiment(spec, tmp_path / "result")
    for index in (0, 2):
        opened.records[index] = replace(opened.records[index], data=b"no image")
    steps: list[Step] = []
    result = run_experiment(opened, steps.append)
    assert [t.image_id for t in result.measured] == [opened.records[1].image_id]
    assert [one.image_id for one in result.failures] == [opened.records[index].image_id for index in (0, 2)]
    assert read_run(opened.folder)["failed"] == result.document["failed"]
    assert all(one.line.startswith("failed: server-only of small on image photo") for one in result.failures)
    assert steps[-1].done == steps[-1].total == 3
    whole = run_experiment(open_experiment(spec, opened.folder), lambda _: None)
    assert whole.failures == read_run(opened.folder)["failed"] == []
    assert read_trials(opened.folder) == whole.trials
    assert len(whole.measured) == 3


def test_a_failure_is_one_line() -> None:
    one = Failure("0000-001-speculative-4", "speculative-4", "small", "photo1.jpg", "it broke", "2026-01-01")
    assert one.line == "failed: speculative-4 of small on image photo1.jpg (0000-001-speculative-4): it broke"
