"""What an installed `aiflow` holds, and that it runs away from its sources."""

from __future__ import annotations

import ast
import fnmatch
import json
import os
import re
import shutil
import site
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "aiflow_cli"
HAS_PAIR = (PACKAGE / "pairs" / "small-target" / "config.json").is_file()


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def data_files() -> list[str]:
    files = (file.relative_to(PACKAGE) for file in PACKAGE.rglob("*") if file.is_file())
    return [str(file) for file in files if file.suffix not in (".py", ".pyc")]


def test_every_data_file_goes_into_the_wheel(project: dict[str, Any]) -> None:
    patterns = project["tool"]["setuptools"]["package-data"]["aiflow_cli"]
    forgotten = [file for file in data_files() if not any(fnmatch.fnmatch(file, pattern) for pattern in patterns)]
    assert not forgotten


def test_every_dependency_is_pinned(project: dict[str, Any]) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    extras = project["project"]["optional-dependencies"]
    wanted = [
        *project["project"]["dependencies"],
        *extras["test"],
        *extras["check"],
        *extras["ray"],
        *extras["quantize"],
    ]
    names = {re.split(r"[<>=\[ ;]", requirement)[0].lower().replace("_", "-") for requirement in wanted}
    assert names <= pinned


def test_every_third_party_import_is_declared(project: dict[str, Any]) -> None:
    """httpx, say, may be there only because another package brought it."""
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *extras["ray"], *extras["quantize"]]
    declared = {re.split(r"[<>=\[ ;]", requirement)[0].lower() for requirement in wanted}
    declared |= {"aiflow_cli", "pil", "huggingface_hub"}  # Pillow's module; what transformers and datasets are built on
    found = {name for file in PACKAGE.rglob("*.py") for name in imports(ast.parse(file.read_text()))}
    assert not {name for name in found if name.lower() not in declared and name not in sys.stdlib_module_names}


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AIFLOW"))}
    finished = subprocess.run(command, cwd=cwd, env=environment, text=True, capture_output=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout stays clean; in isolation unless setuptools is at hand."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(PACKAGE, source / "aiflow_cli", ignore=shutil.ignore_patterns("__pycache__"))
    isolation = [] if int(version("setuptools").partition(".")[0]) < 77 else ["--no-build-isolation"]
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", *isolation, "-w", "dist", ".", cwd=source)
    return next((source / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an empty environment with the wheel; its dependencies are read from this environment.

    A `.pth` file in a folder that another one names is not read: the editable install of this checkout stays out.
    """
    environment = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", environment, cwd=environment.parent)
    run(environment / "bin" / "python", "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=environment.parent)
    ours = next((environment / "lib").glob("python3.*")) / "site-packages"
    (ours / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return environment / "bin"


@pytest.mark.slow
def test_wheel_holds_all_data_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"aiflow_cli/{file}" for file in data_files()} <= names
    assert {f"aiflow_cli/experiments/{file.name}" for file in (ROOT / "experiments").glob("*.toml")} <= names
    assert not any(name.startswith(("tests/", "data/")) for name in names)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_PAIR, reason="the small pair is not in the package yet")
def test_installed_wheel_runs_elsewhere(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "import aiflow_cli; print(aiflow_cli.__file__)", cwd=tmp_path).stdout
    assert str(installed.parent) in where
    document = json.loads(run(installed / "aiflow", "run", "--images", "1", "--json", cwd=tmp_path).stdout)
    server_only, speculative = document["groups"][0]["methods"]
    assert (server_only["method"], speculative["method"]) == ("server-only", "speculative")
    assert speculative["identical"] == speculative["trials"] == 1
