"""Variables of the environment: all are in one table, and what cannot be is told before a command begins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import aiflow_cli
from aiflow_cli import environment
from aiflow_cli.cli.app import app
from aiflow_cli.errors import UsageError

BAD = {
    "AIFLOW_DATA": ("~nobody-of-that-name/x", "no user of that name"),
    "AIFLOW_DEBUG": ("maybe", "write it as 1 or 0"),
    "AIFLOW_ANSWER_TIMEOUT_S": ("ten", "no number of seconds above 0"),
    "AIFLOW_OPENIMAGES_URL": ("bucket.example", "must begin with http"),
    "AIFLOW_OPENIMAGES_METADATA_URL": ("http://", "name a host"),
    "AIFLOW_ROBOFLOW_URL": ("http://a:b:c", "is no address"),
    "HF_HOME": ("x" * 300, "has 300 bytes"),
    "HF_HUB_CACHE": ("~nobody-of-that-name", "no user of that name"),
    "HF_ENDPOINT": ("ftp://hub.example", "must begin with http"),
    "HF_HUB_OFFLINE": ("2", "write it as 1 or 0"),
    "HF_HUB_DOWNLOAD_TIMEOUT": ("1.5", "no whole number"),
    "HF_HUB_ETAG_TIMEOUT": ("soon", "no whole number"),
}


def test_every_variable_that_the_program_names_is_in_the_table() -> None:
    sources = "".join(path.read_text() for path in Path(aiflow_cli.__file__).parent.rglob("*.py"))
    named = set(re.findall(r"\b(?:AIFLOW|HF)_[A-Z_]*[A-Z]\b|ROBOFLOW_API_KEY", sources))
    known = {variable.name for variable in environment.VARIABLES}
    assert len(named) > 10
    assert named - known == set()
    assert len(known) == len(environment.VARIABLES)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", [["results"], ["pairs", "list", "--json"]], ids=" ".join)
def test_a_bad_value_ends_a_command_before_it_begins(
    name: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    value, words = BAD[name]
    monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {name}={value!r} ")
    assert words in line


def test_two_bad_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AIFLOW_DEBUG", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "?")
    with pytest.raises(UsageError, match=r"^AIFLOW_DEBUG='\?' .*; HF_HUB_OFFLINE='\?' "):
        environment.check()


def test_what_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in environment.VARIABLES:
        monkeypatch.setenv(variable.name, " ")
    assert {variable.value() for variable in environment.VARIABLES} == {None}
    environment.check()


def test_values(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable, text, value in (
        (environment.DATA, "~/photos", tmp_path / "photos"),
        (environment.ANSWER_TIMEOUT, " 2.5 ", 2.5),
        (environment.ROBOFLOW_URL, "https://mirror.example/", "https://mirror.example"),
        (environment.DEBUG, "Yes", True),
        (environment.DEBUG, "off", False),
    ):
        monkeypatch.setenv(variable.name, text)
        assert variable.value() == value


def test_a_secret_is_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "ROBOFLOW_API_KEY"):
        monkeypatch.setenv(name, "~nobody/secret")
    monkeypatch.setenv("AIFLOW_DEBUG", "?")
    assert "secret" not in CliRunner().invoke(app, ["results"]).output
