"""Whatever lies in the current folder, the program that runs is the one that is installed: nothing is imported from
there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import aiflow_cli
from aiflow_cli.node.process import Child
from aiflow_cli.training.recipe import Recipe
from aiflow_cli.training.stages import STAGES, run_recipe
from tests.conftest import TinyPair
from tests.e2e.tools import aiflow

SHADOWS = (
    "random.py",
    "queue.py",
    "socket.py",
    "transformers.py",
    "typer.py",
    "sitecustomize.py",
    "aiflow_cli/__init__.py",
)
pytestmark = pytest.mark.start_up
AIFLOW = Path(sys.executable).with_name("aiflow")
"""The command as it is installed: unlike `python -m`, it does not begin in the current folder."""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder of modules that note that they were imported, in `seen` beside them, and end the process."""
    folder = tmp_path / "hostile"
    for name in SHADOWS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"open({str(folder / 'seen')!r}, 'a').write({name!r} + ' ')\nraise SystemExit(9)\n")
    return folder


def seen(folder: Path) -> str:
    path = folder / "seen"
    return path.read_text() if path.exists() else ""


def test_a_run_from_a_folder_of_shadows(hostile: Path, tiny_pair: TinyPair, photographs: Path) -> None:
    """The command, its server and its relay."""
    options = [*tiny_pair.options, "--data", str(photographs), "--images", "1", "--max-new-tokens", "4"]
    finished = subprocess.run([AIFLOW, "run", *options], cwd=hostile, capture_output=True, text=True, check=False)
    assert (seen(hostile), finished.returncode) == ("", 0), finished.stderr


def test_as_a_module_too(hostile: Path) -> None:
    """`python -m aiflow_cli` finds the package itself where it is started, as Python does; nothing else."""
    (hostile / "aiflow_cli" / "__init__.py").unlink()
    (hostile / "aiflow_cli").rmdir()
    finished = aiflow("link", "--to", "nowhere", cwd=hostile)
    assert (seen(hostile), finished.returncode) == ("", 2), finished.stderr


@pytest.mark.parametrize("path", ["", ".", f"{os.pathsep}/nowhere"], ids=repr)
def test_a_search_path_that_names_the_current_folder(path: str, hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty entry, as `$PYTHONPATH:/more` leaves it, is the current folder."""
    monkeypatch.chdir(hostile)
    monkeypatch.setenv("PYTHONPATH", path)
    with Child("link", ["link", "--to", "127.0.0.1:9"]) as child:
        assert child.ready().port
    assert seen(hostile) == ""


def test_the_stages_of_the_training_too(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing left to train, their manager still starts, as every worker does."""
    monkeypatch.chdir(hostile)
    for name in ("PYTHONPATH", "PYTHONSAFEPATH"):
        monkeypatch.setenv(name, "")  # as if unset; it is put back afterwards
    recipe = Recipe(hostile / "work")
    recipe.work.mkdir()
    for stage in STAGES:
        recipe.done_file(stage).touch()
    run_recipe(recipe, 1, lambda _: None)
    assert seen(hostile) == ""


def test_children_are_of_the_package_that_their_parent_runs(tmp_path: Path) -> None:
    """A checkout that is not installed, beside a version that is."""
    package = Path(aiflow_cli.__file__).parent
    shutil.copytree(package, tmp_path / "aiflow_cli", ignore=shutil.ignore_patterns("pairs", "__pycache__"))
    (tmp_path / "aiflow_cli" / "__init__.py").write_text("__version__ = '99.9'")
    code = "from aiflow_cli.node.process import Child\nChild('child', ['--version', '--']).ready()"
    finished = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "it printed b'aiflow 99.9\\n'" in finished.stderr
