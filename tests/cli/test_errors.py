"""What becomes a line, with which exit code, and what stays a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aiflow_cli.cli.errors import exit_code_of
from aiflow_cli.errors import PrerequisiteError, UsageError


def raising(error: BaseException) -> int:
    def call() -> None:
        raise error

    return exit_code_of(call)


def test_errors_are_a_line_and_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(UsageError("no\nsuch  thing")) == 2
    assert raising(PrerequisiteError("fetch it")) == 3
    assert raising(UsageError()) == 2
    assert raising(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.splitlines() == [
        "error: no such thing",
        "error: fetch it",
        "error: UsageError",
        "interrupted",
    ]


def test_a_file_that_the_system_refuses_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "[/old]"
    assert exit_code_of(lambda: print(missing.read_text())) == 1
    assert exit_code_of(lambda: print(Path("x" * 300).read_text())) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"error: {missing}: No such file or directory", f"error: {'x' * 300}: File name too long"]


def test_a_bug_stays_a_traceback() -> None:
    with pytest.raises(OSError, match="bare"):
        raising(OSError("bare"))
    with pytest.raises(KeyError):
        raising(KeyError("x"))


def test_a_line_that_nobody_reads_keeps_its_code() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", gone)
        assert raising(UsageError("unheard")) == 2
        with pytest.raises(BrokenPipeError):
            gone.close()
