"""`aiflow results`: a list, also where results are damaged or there are none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aiflow_cli.cli.app import app
from tests.analysis.records import FakePair, FakeSweep, write_result

SMALL = FakeSweep(pairs=(FakePair("small"),), images=2, gammas=(4,), co_located=())


def test_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_result(Path("results") / "figure6-1a2b", SMALL)
    (tmp_path / "results" / "broken").mkdir()
    (tmp_path / "results" / "broken" / "run.json").write_text("{")
    done = CliRunner().invoke(app, ["results"])
    assert done.exit_code == 0, done.output
    line = next(line for line in done.stdout.splitlines() if "figure6-1a2b" in line)
    for told in ("small", "scenes (2)", "8/8", "complete", "2025-01-01 00:00:00", "0123456789"):
        assert told in line
    assert "damaged" in done.stdout
    assert "run.json cannot be read" in done.stderr


def test_one_document(tmp_path: Path) -> None:
    write_result(tmp_path / "one", SMALL)
    done = CliRunner().invoke(app, ["results", str(tmp_path), "--json"])
    told = json.loads(done.stdout)["results"]
    assert [(entry["run_id"], entry["trials"], entry["state"]) for entry in told] == [("one", 8, "complete")]


def test_none(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["results", str(tmp_path / "nowhere")])
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "aiflow run" in done.stderr
    assert json.loads(CliRunner().invoke(app, ["results", str(tmp_path), "--json"]).stdout) == {"results": []}


def test_more_trials_than_planned_are_no_share_of_the_plan(tmp_path: Path) -> None:
    folder = write_result(tmp_path / "mixed", SMALL)
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"trials": 4}))
    row = CliRunner().invoke(app, ["results", str(tmp_path)]).stdout.splitlines()[2]
    assert "8/4" not in row
    assert " 8 " in row


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    for name in ("[bold]", "a[]", ":bus:", os.fsdecode(b"caf\xe9"), os.fsdecode(b"caf\xe8")):
        write_result(tmp_path / "[/old]" / name, SMALL)
    done = CliRunner().invoke(app, ["results", str(tmp_path / "[/old]")])
    assert done.exit_code == 0, done.output
    shown = {line.split()[0] for line in done.stdout.splitlines()[2:] if line}
    assert shown == {"[bold]", "a[]", ":bus:", "caf\\xe9", "caf\\xe8"}
    listed = json.loads(CliRunner().invoke(app, ["results", str(tmp_path / "[/old]"), "--json"]).stdout)["results"]
    assert {entry["run_id"] for entry in listed} == shown
    json.dumps(listed, ensure_ascii=False).encode()


def test_a_last_trial_that_only_lacks_its_newline_is_counted(tmp_path: Path) -> None:
    path = write_result(tmp_path / "one", SMALL) / "trials.jsonl"
    for cut, count in ((1, 8), (2, 7)):
        path.write_bytes(path.read_bytes()[:-cut])
        told = json.loads(CliRunner().invoke(app, ["results", str(tmp_path), "--json"]).stdout)["results"]
        assert told[0]["trials"] == count
    assert "trials.jsonl:9 is torn and passed over" in told[0]["note"]
