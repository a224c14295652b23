"""A finished experiment, which tests of this folder share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from aiflow_cli.trials.experiment import open_experiment
from aiflow_cli.trials.run import RunResult, Step, run_experiment
from tests.conftest import TinyPair
from tests.trials.sweeps import read_spec


@pytest.fixture(scope="session")
def finished(tiny_pair: TinyPair, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("sweep")
    steps: list[Step] = []
    sweep = open_experiment(read_spec(folder, tiny_pair, photographs), folder / "result")
    result = run_experiment(sweep, steps.append)
    warm = len(result.trials) - len(result.measured)
    assert [step.done for step in steps] == [0] * warm + list(range(len(result.measured) + 1))
    assert {step.total for step in steps} == {len(result.measured)}
    return result


@pytest.fixture
def copy(finished: RunResult, tmp_path: Path) -> Path:
    """The finished result, to be tampered with."""
    return Path(shutil.copytree(finished.folder, tmp_path / "result"))
