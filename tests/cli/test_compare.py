"""`aiflow compare`: two results side by side."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from typer.testing import CliRunner

from aiflow_cli.cli.app import app
from tests.analysis.records import FakePair, FakeSweep, write_result


def two(tmp_path: Path) -> tuple[str, str]:
    a = FakeSweep(pairs=(FakePair("small"),), images=10, gammas=(2, 4), co_located=(), on_device=False)
    b = FakeSweep(
        pairs=(FakePair("small", draft_cost=0.02),),
        images=10,
        gammas=(4, 8),
        co_located=(),
        on_device=False,
        rates=(2e6,),
    )
    return str(write_result(tmp_path / "a", a)), str(write_result(tmp_path / "b", b))


def test_what_differs(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compare", *two(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "2 MB/s, burst 10000 B" in done.stdout
    assert "1 MB/s, speculative γ 4" not in done.stdout  # one link each: compared although they differ
    line = next(line for line in done.stdout.splitlines() if "speculative γ 4" in line)
    assert "B is faster" in line
    assert "only in A: speculative γ 2" in done.stderr
    assert "only in B: speculative γ 8" in done.stderr


def test_one_document(tmp_path: Path) -> None:
    told = json.loads(CliRunner().invoke(app, ["compare", *two(tmp_path), "--json"]).stdout)
    assert [d["what"] for d in told["set_up"]] == ["links"]
    four = next(s for s in told["settings"] if s["setting"] == "speculative γ 4")
    low, high = four["decode_tpot_ratio_ci"]
    assert low <= four["decode_tpot_ratio"] <= high < 1
    assert told["settings"][0]["speedup_a"] is None
    assert (told["only_a"], told["only_b"]) == (["speculative γ 2"], ["speculative γ 8"])


def test_the_same_twice(tmp_path: Path) -> None:
    a, _ = two(tmp_path)
    done = CliRunner().invoke(app, ["compare", a, a])
    assert "The set-ups are the same." in done.stdout
    assert done.stdout.count("no difference shown") == 3


def test_too_few_images_give_no_verdict(tmp_path: Path) -> None:
    """A draft that costs nothing, on one image: faster there, which says nothing of others."""
    one = FakeSweep(pairs=(FakePair("small"),), images=1, gammas=(4,), co_located=(), on_device=False)
    free = replace(one, pairs=(FakePair("small", draft_cost=0.0, round_cost=0.1),))
    folders = str(write_result(tmp_path / "a", one)), str(write_result(tmp_path / "b", free))
    done = CliRunner().invoke(app, ["compare", *folders])
    assert done.exit_code == 0, done.output
    assert "faster" not in done.stdout
    assert "[" not in done.stdout
    assert "No verdict: 1 image: too few for an interval, which needs at least 10." in done.stdout
    four = json.loads(CliRunner().invoke(app, ["compare", *folders, "--json"]).stdout)["settings"][1]
    assert four["decode_tpot_ratio"] < 0.5
    assert four["decode_tpot_ratio_ci"] is None
    assert (four["images"], four["verdict"]) == (1, "too few images")
    assert four["no_verdict"] == "1 image: too few for an interval, which needs at least 10"


def test_no_such_result(tmp_path: Path) -> None:
    a, _ = two(tmp_path)
    done = CliRunner().invoke(app, ["compare", a, str(tmp_path / "c")])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: no result")
