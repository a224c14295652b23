"""What holds of the options of all commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.markup import render

from aiflow_cli.cli.app import app
from tests.conftest import TinyPair
from tests.e2e.tools import aiflow

NO_RESULT = {"serve", "link"}
"""They run until they are stopped, and each line that they print is JSON."""


def commands(group: Any, *names: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *names, name)
        else:
            yield " ".join((*names, name)), command


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_all_commands_are_there() -> None:
    assert {"run", "sweep", "plot", "report", "results", "compare", "bench", "doctor", "pairs train"} <= COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - NO_RESULT))
def test_every_result_can_be_one_document(name: str) -> None:
    assert [option for option in COMMANDS[name].params if "--json" in option.opts]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_says_what_it_does(name: str) -> None:
    silent = [
        option.opts for option in COMMANDS[name].params if not option.help and not getattr(option, "hidden", False)
    ]
    assert silent == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_no_word_of_help_is_taken_for_markup(name: str) -> None:
    """`[default: 4]` would be: rich leaves it out."""
    for option in COMMANDS[name].params:
        told = option.help or ""
        assert render(told).plain == told.replace("\\[", "[")


def test_where_the_gallery_is_as_a_document(tiny_pair: TinyPair, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = aiflow("pairs", "gallery", "small", *tiny_pair.options, "--scenes", 1, "-o", page, "--json")
    assert json.loads(done.stdout) == {"schema_version": 1, "pair": "small", "scenes": 1, "page": str(page)}
    assert page.is_file()
