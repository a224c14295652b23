"""A process from a stem is what the caller asked for, and cannot be told from one that is started in the usual way."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import TinyPair
from tests.e2e.tools import AIFLOW, Background, aiflow, assert_gone, descendants, finished_trials, wait_for
from tests.starter import command_of, early

LINK = ("link", "--to", "127.0.0.1:9", "--listen", "127.0.0.1:0")


@pytest.fixture
def link(background: Callable[..., Background]) -> Background:
    return background(*LINK)


@pytest.mark.parametrize(
    "arguments",
    [("--version",), ("pairs", "list", "--json"), ("link", "--to", "nowhere"), ("run", "--gamma", "0")],
    ids=" ".join,
)
def test_it_says_and_ends_as_the_usual_one(arguments: tuple[str, ...]) -> None:
    quick, usual = aiflow(*arguments), aiflow(*arguments, env=os.environ | {"SOMETHING": "read early"})
    assert (quick.returncode, quick.stdout, quick.stderr) == (usual.returncode, usual.stdout, usual.stderr)


def test_it_is_a_child_with_a_line_and_a_session_of_its_own(link: Background) -> None:
    link.listening()
    process = psutil.Process(link.process.pid)
    assert process.ppid() == os.getpid()
    assert [part for part in process.cmdline() if part] == [*AIFLOW, *LINK]
    assert os.getsid(process.pid) == process.pid
    assert sorted(process.cpu_affinity()) == sorted(os.sched_getaffinity(0))
    assert link.signal(signal.SIGTERM)[0] == 0


def test_a_signal_that_kills_is_its_exit_code(link: Background) -> None:
    link.listening()
    assert link.signal(signal.SIGKILL)[0] == -signal.SIGKILL


def test_folder_and_environment_are_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_DATA", str(tmp_path / "elsewhere"))
    findings = json.loads(aiflow("doctor", "--json", cwd=tmp_path).stdout)["findings"]
    said = {finding["name"]: finding["detail"] for finding in findings}
    assert str(tmp_path / "elsewhere") in said["photographs"]
    assert aiflow("run", "--data", "photos", cwd=tmp_path).stderr == aiflow("run", "--data", "photos").stderr != ""


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        aiflow("--version", cwd=tmp_path / "nowhere")
    assert aiflow("--version", cwd=tmp_path).returncode == 0


def test_what_it_starts_is_real_too_and_ends_with_it(
    tiny_pair: TinyPair, photographs: Path, tmp_path: Path, background: Callable[..., Background]
) -> None:
    """`run` with a server and a link: killed without a word, nothing of it stays, its stem least of all."""
    options = (*tiny_pair.options, "--data", photographs, "--repeats", "500", "--output", tmp_path / "result")
    run = background("run", *options)
    wait_for(lambda: finished_trials(tmp_path / "result"), "the first trial")
    family = descendants(run.process.pid)
    assert sum(child.cmdline()[4] in ("serve", "link") for child in family if len(child.cmdline()) > 4) == 2
    assert len(family) == 3
    run.signal(signal.SIGKILL)
    assert_gone(family)


@pytest.mark.parametrize(
    ("line", "command"),
    [([*AIFLOW, "run"], ["run"]), ([AIFLOW[0], "-c", "print()"], None), (["ls"], None), ("ls", None)],
    ids=str,
)
def test_which_lines_start_the_program(line: list[str] | str, command: list[str] | None) -> None:
    assert command_of(line) == command


def test_which_variables_may_have_been_read_early() -> None:
    variables = {"HF_HOME": "x", "AIFLOW_DATA": "x", "COLUMNS": "80", "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    assert early(variables) == {"HF_HOME": "x", "OMP_NUM_THREADS": "1"}
