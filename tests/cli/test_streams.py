"""Standard streams as people leave them: full, closed, their reader gone, in an encoding that lacks a letter."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.analysis.records import FakePair, FakeSweep, write_result
from tests.e2e.tools import AIFLOW

SMALL = FakeSweep(pairs=(FakePair("small"),), images=2, gammas=(2, 4), co_located=())
OUTPUTS = {"full": ">/dev/full", "closed": ">&-", "no reader": "| true", "all closed": "<&- >&- 2>&-"}
REASONS = {"full": "No space left on device", "closed": "Bad file descriptor"}
CASES = [
    *(("results", output) for output in OUTPUTS),
    ("results --json", "full"),
    ("--help", "full"),
    ("--version", "closed"),
    ("pairs list", "no reader"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with results/ in it, one of a name that is no UTF-8."""
    folder = tmp_path_factory.mktemp("place")
    for name in (b"one", b"caf\xe9"):
        write_result(folder / "results" / os.fsdecode(name), SMALL)
    return folder


def shell(command: str, place: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash, in which `aiflow` is the program; a pipe ends with what the program ends with."""
    line = f'set -o pipefail; aiflow() {{ {" ".join(AIFLOW)} "$@"; }}; {command}'
    env = os.environ | environment
    return subprocess.run(["bash", "-c", line], cwd=place, env=env, capture_output=True, timeout=100, check=False)


@pytest.mark.parametrize(("command", "output"), CASES)
def test_an_output_that_takes_nothing(command: str, output: str, place: Path) -> None:
    unbuffered = "1" if output == "full" and command == "results" else ""
    done = shell(f"aiflow {command} {OUTPUTS[output]}", place, PYTHONUNBUFFERED=unbuffered)
    told = f"error: standard output cannot be written: {REASONS[output]}\n" if output in REASONS else ""
    assert done.stderr.decode() == told
    assert done.returncode == 1 or output == "no reader"  # it may be done before its reader is gone


def test_errors_that_nobody_can_read_change_nothing(place: Path) -> None:
    for output in ("2>/dev/full", "2>&-"):
        done = shell(f"aiflow results {output}", place)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"one" in done.stdout
        assert shell(f"aiflow compare one nothing {output}", place).returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_an_encoding_without_some_letters(encoding: str, place: Path) -> None:
    done = shell(
        "aiflow compare one results/caf* && aiflow compare one results/caf* --json", place, PYTHONIOENCODING=encoding
    )
    errors = done.stderr.decode(encoding)
    assert done.returncode == 0, errors
    assert "Traceback" not in errors
    out = done.stdout.decode(encoding)
    assert ("speculative γ 4" if encoding == "utf-8" else "speculative gamma 4") in out
    assert "caf\\xe9" in out
    document = json.JSONDecoder().raw_decode(out[out.index("{") :])[0]
    assert document["b"] == "results/caf\\xe9"
    assert document["settings"][-1]["setting"] == "speculative γ 4"


def test_nothing_is_printed_into_a_file_that_took_the_number_of_a_closed_stream(place: Path) -> None:
    done = shell("aiflow report results/caf* -o $'m\\xfade' >&- 2>&-", place, PYTHONIOENCODING="latin-1")
    made = place / os.fsdecode(b"m\xfade")
    assert done.returncode == 1
    assert (made / "report.md").read_text().startswith("# ")
    assert "caf\\xe9" in (made / "report.html").read_text()
    assert len(list((made / "figures").iterdir())) >= 16
