"""Every command that takes a path, with every kind of bad one: one line on standard error, an exit code that says whose
fault it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aiflow_cli.cli.app import app
from aiflow_cli.trials.store import owned
from tests.analysis.records import FakePair, FakeSweep, write_result

SMALL = FakeSweep(pairs=(FakePair("small"),), images=2, gammas=(2, 4), co_located=())

READING = {
    "run --target": ["run", "--dry-run", "--target"],
    "run --draft": ["run", "--dry-run", "--draft"],
    "sweep": ["sweep"],
    "sweep --set": ["sweep", "quick", "--dry-run", "--set", "pairs=small", "--set", "checkpoints.small.draft={}"],
    "plot": ["plot"],
    "plot, second": ["plot", "good"],
    "report": ["report"],
    "results": ["results"],
    "compare, first": ["compare", "{}", "good"],
    "compare, second": ["compare", "good"],
    "bench --target": ["bench", "--target"],
    "pairs show": ["pairs", "show", "small", "--target"],
    "pairs evaluate": ["pairs", "evaluate", "small", "--draft"],
    "pairs gallery": ["pairs", "gallery", "small", "--draft"],
    "pull --draft": ["pull", "small", "--draft"],
}
"""Commands that read what a path names; `{}` is the path, which stands last where it is not written."""
WRITING = {
    "run": ["run", "-n", "1", "-o"],
    "sweep": ["sweep", "quick", "-o"],
    "plot": ["plot", "good", "-f", "bytes", "-o"],
    "report": ["report", "good", "-o"],
    "pairs gallery": ["pairs", "gallery", "small", "-o"],
    "pairs train": ["pairs", "train", "--work"],
    "download": ["download", "--limit", "1", "-o"],
}
LENIENT = ("results", "sweep --set", "pull --draft")
"""A list may be empty, a plan names what is missing, and of a pair that ships with the package nothing is fetched."""
NO_PATHS = {
    "unknown user": "~nouser/x",
    "long name": "x" * 256,
    "long path": "x/" * 2100,
}
"""What is no path at all: wrong use, whatever is to be done with it."""
NOT_THERE = {
    "missing": "missing",
    "markup": "[/old]",
    "more markup": "[bold]x[/]:bus:",
    "no UTF-8": os.fsdecode(b"caf\xe9"),
    "a file in the way": "file/x",
}
NOT_WRITABLE = {"a file": "file", "a file in the way": "file/x", "proc": "/proc/aiflow/x", "sys": "/sys/aiflow/x"}


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder with a result and a file in it."""
    monkeypatch.chdir(tmp_path)
    write_result(Path("good"), SMALL)
    Path("file").write_text("no folder")


def refused(command: list[str], path: str) -> tuple[int, str]:
    """The exit code and the line of a command that is given a path."""
    arguments = [argument.replace("{}", path) for argument in command]
    arguments += [] if "{}" in "".join(command) else [path]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("W")]  # torch's own
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert len(lines[0]) < 300
    return done.exit_code, lines[0]


@pytest.mark.parametrize("kind", NO_PATHS)
@pytest.mark.parametrize("command", READING.values(), ids=READING)
def test_what_is_no_path_is_not_read(command: list[str], kind: str) -> None:
    assert refused(command, NO_PATHS[kind])[0] == 2


@pytest.mark.parametrize("kind", NO_PATHS)
@pytest.mark.parametrize("command", WRITING.values(), ids=WRITING)
def test_what_is_no_path_is_not_written(command: list[str], kind: str) -> None:
    assert refused(command, NO_PATHS[kind])[0] == 2
    assert sorted(path.name for path in Path().iterdir()) == ["file", "good"]


@pytest.mark.parametrize("kind", NOT_THERE)
@pytest.mark.parametrize("command", [READING[name] for name in READING if name not in LENIENT], ids=str)
def test_what_is_not_there_is_named_as_it_is(command: list[str], kind: str) -> None:
    code, line = refused(command, NOT_THERE[kind])
    assert code in (1, 2, 3)
    assert NOT_THERE[kind] in line or kind == "no UTF-8"


@pytest.mark.parametrize("kind", NOT_WRITABLE)
@pytest.mark.parametrize("command", [command for name, command in WRITING.items() if name != "download"], ids=str)
def test_what_cannot_be_written_is_said_before_the_work(command: list[str], kind: str) -> None:
    if command[:2] == ["pairs", "gallery"] and kind == "a file":
        return  # the page is a file
    code, line = refused(command, NOT_WRITABLE[kind])
    assert code == 1
    assert NOT_WRITABLE[kind] in line
    assert "--output" in line or "--work" in line
    assert Path("file").read_text() == "no folder"


@pytest.mark.parametrize("command", ["plot -f bytes", "report", "compare good"])
def test_a_folder_whose_name_begins_with_a_tilde(command: str) -> None:
    """`./~x` is that folder, and no user's, however often a path is looked at."""
    shutil.copytree("good", "~nouser")
    assert CliRunner().invoke(app, [*command.split(), "./~nouser"]).exit_code == 0


def test_a_list_of_nothing() -> None:
    assert refused(["results"], "file") == (2, "error: file is a file: give the folder that results lie in")
    for path in NOT_THERE.values():
        done = CliRunner().invoke(app, ["results", path])
        assert (done.exit_code, done.stdout) == (0, "")
        assert done.stderr.startswith("no results in ")


def test_a_folder_that_another_training_is_at_work_in() -> None:
    Path("work").mkdir()
    with owned(Path("work")):
        code, line = refused(["pairs", "train", "--work"], "work")
    assert (code, line[:52]) == (1, "error: another aiflow is writing into work: wait for")
    assert list(Path("work").iterdir()) == []


READ_ONLY = """
import sys
from typer.testing import CliRunner
from aiflow_cli.cli.app import app
for command in (["report", "good"], ["plot", "good"], ["plot", "good", "-o", "good"],
                ["run", "-n", "1", "-o", "good/x"], ["run", "-n", "1"], ["sweep", "quick"],
                ["sweep", "quick", "-o", "empty"], ["run", "-n", "1", "-o", "empty"]):
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, SystemExit), (command, done.exception)
    print(done.exit_code, done.stderr.splitlines()[-1])
"""


def test_a_read_only_file_system(tmp_path: Path) -> None:
    """Mounted so in a namespace of its own, which needs no privilege where the system allows that at all."""
    write_result(Path("results") / "older", SMALL)
    Path("empty").mkdir()
    mounted = 'mount --bind . . && mount -o remount,bind,ro . && cd . && cd "$PWD" && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", mounted, "sh"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system allows no mount in a namespace")
    done = subprocess.run([*command, sys.executable, "-c", READ_ONLY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 8
    for line in lines:
        assert line.startswith("1 error: cannot write "), line
        assert line.endswith("(Read-only file system): give another --output")
