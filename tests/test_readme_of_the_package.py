"""The picture of the house and the token's way through it name what is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import aiflow_cli

PACKAGE = Path(aiflow_cli.__file__).parent
README = (PACKAGE / "README.md").read_text()


def test_every_folder_is_in_the_picture() -> None:
    told = set(re.findall(r"(\w+)/", README.partition("```")[2].partition("```")[0]))
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert told == folders


def test_every_file_and_name_on_the_way_exists() -> None:
    """`file.py` is followed by the names that are in it."""
    way = README.partition("## A token's way")[2]
    named = re.findall(r"`(\w+/\w+\.py)`\s+`([\w.]+)`", way)
    assert len(named) >= 10
    for file, name in named:
        tree: ast.AST = ast.parse((PACKAGE / file).read_text())
        for part in name.split("."):
            found = [node for node in ast.iter_child_nodes(tree) if getattr(node, "name", None) == part]
            assert found, f"{file} has no {name}"
            tree = found[0]
    for file in re.findall(r"`(\w+/\w+\.py)`", way):
        assert (PACKAGE / file).is_file(), file
