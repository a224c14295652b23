"""`aiflow report`: the claims on standard output, and a report of a result that was really measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aiflow_cli.cli.app import app
from aiflow_cli.decoding.methods import Method
from aiflow_cli.trials.store import owned
from tests.analysis.records import FakePair, FakeSweep, records, write_records, write_result
from tests.conftest import TinyPair
from tests.e2e.tools import aiflow

SMALL = FakeSweep(pairs=(FakePair("small-weak"), FakePair("small")), images=3, gammas=(4,), co_located=())


def test_the_claims_and_the_paths(tmp_path: Path) -> None:
    write_result(tmp_path, SMALL)
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "output identical to server-only" in done.stdout
    assert "UNDECIDED HERE" in done.stdout
    assert done.stdout.count("small-weak") >= 7
    for name in ("report.md", "report.html", "figures"):
        assert str(tmp_path / name) in done.stdout
        assert (tmp_path / name).exists()
    assert re.search(r"report: \d+/\d+", done.stderr)


def refused(code: int, folder: Path) -> str:
    done = CliRunner().invoke(app, ["report", str(folder)])
    assert done.exit_code == code, done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert done.stdout == ""
    return lines[0]


def test_errors_are_one_line(tmp_path: Path) -> None:
    assert "no result" in refused(2, tmp_path / "nothing")
    assert "holds no result" in refused(1, tmp_path)
    write_records(tmp_path, [r for r in records(SMALL) if r.setting.method is not Method.SERVER_ONLY])
    assert "no server-only trials" in refused(2, tmp_path)
    write_records(tmp_path, [r for r in records(SMALL) if r.setting.method is Method.SERVER_ONLY])
    assert "no speculative trials" in refused(2, tmp_path)


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    write_result(tmp_path, SMALL)
    (tmp_path / "figures").mkdir()
    with owned(tmp_path / "figures"):
        assert "another aiflow is writing into" in refused(1, tmp_path)
    assert not (tmp_path / "report.md").exists()


def test_a_result_that_is_still_measured_can_be_reported(tmp_path: Path) -> None:
    write_result(tmp_path, SMALL)
    with owned(tmp_path):
        assert CliRunner().invoke(app, ["report", str(tmp_path)]).exit_code == 0


@pytest.fixture(scope="module")
def measured(tiny_pair: TinyPair, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over a real link, with real models."""
    folder = tmp_path_factory.mktemp("run") / "result"
    methods = ("-m", "speculative", "-m", "co-located", "-m", "on-device", "-g", "2", "-g", "4")
    options = (*tiny_pair.options, *methods, "--data", photographs, "--max-new-tokens", "24", "--output", folder)
    finished = aiflow("run", *options)
    assert finished.returncode == 0, finished.stderr
    return folder


def test_a_measured_result(measured: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(measured), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    identical = next(claim for claim in told["claims"] if claim["claim"] == "identical")
    assert (identical["verdict"], identical["measured"]) == ("UNDECIDED HERE", "12 of 12 outputs")
    assert identical["why"] == "3 images: too few for an interval, which needs at least 10"
    assert all(Path(path).is_file() for path in (*told["figures"], told["markdown"], told["html"]))
    page = Path(told["html"]).read_text()
    assert 'class="accepted">' in page  # the pair's tokenizer is here
    assert page.count("data:image/jpeg") == 3  # and so are the photographs
    assert "The captions are wrong here." in page
    assert "co-located speculation, γ" in page
    assert str(measured.name) in page
