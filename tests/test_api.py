"""The public face: what people call from Python. The README's own example is run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aiflow_cli import api
from tests.analysis.records import FakeSweep, write_result

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> api.Result:
    folder = tmp_path_factory.mktemp("api") / "made-up"
    return api.load(write_result(folder, FakeSweep(images=12, gammas=(2, 4, 8))))


def test_a_dozen_names_and_no_more() -> None:
    assert len(api.__all__) <= 12
    assert all(getattr(api, name).__doc__ for name in api.__all__)


def test_trials_and_rounds_are_data_frames(result: api.Result) -> None:
    assert len(result.trials) == len(result.records)
    assert len(result.rounds) == sum(len(trial.rounds) for trial in result.records)
    totals = result.rounds.groupby("trial")["accepted"].sum()
    assert totals.to_dict() == {t.trial: sum(r.accepted for r in t.rounds) for t in result.records if t.rounds}


def test_points_and_claims(result: api.Result) -> None:
    assert set(result.points["method"]) == {"server-only", "speculative", "co-located", "on-device"}
    at_4 = result.points[(result.points["method"] == "speculative") & (result.points["gamma"] == 4)]
    assert (at_4["speedup"] > 1).all()
    assert {"claim", "measured", "verdict"} <= set(result.claims.columns)


def test_experiments_by_name() -> None:
    spec = api.experiment("quick", "images=8")
    assert "quick" in api.experiments()
    assert spec.images == 8
    with pytest.raises(api.AiflowError):
        api.experiment("no-such-experiment")


@pytest.mark.slow
def test_the_readmes_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(from aiflow_cli import api\n.*?)```", (ROOT / "README.md").read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert isinstance(names["result"], api.Result)
