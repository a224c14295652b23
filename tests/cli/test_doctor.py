"""`aiflow doctor` on machines that lack something: a package, a pair, photographs, a writable folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import aiflow_cli
from aiflow_cli.cli.app import app
from aiflow_cli.images.vehicles import manifest
from tests.conftest import TinyPair
from tests.e2e.tools import aiflow

NAMES = {
    "python",
    "torch",
    "transformers",
    "packages",
    "environment",
    "cores",
    "memory",
    "cpu",
    "photographs",
    "disk",
    "hub cache",
}


def diagnose(packages: Path, **environment: str | Path) -> tuple[int, dict[str, Any]]:
    """Exit code and findings by name of `aiflow doctor --json`, with the packages of a folder before all others."""
    given = {name: str(value) for name, value in environment.items()}
    env = os.environ | {"PYTHONPATH": str(packages)} | given
    command = [sys.executable, "-m", "aiflow_cli", "doctor", "--json"]
    done = subprocess.run(command, cwd=packages, env=env, text=True, capture_output=True, timeout=100, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    findings = {finding["name"]: finding for finding in document["findings"]}
    assert document["ok"] == all(finding["state"] != "missing" for finding in findings.values())
    assert done.returncode == (0 if document["ok"] else 3)
    assert all(finding["remedy"] for finding in findings.values() if finding["state"] == "missing")
    return done.returncode, findings


@pytest.fixture
def package(tmp_path: Path, tiny_pair: TinyPair) -> Path:
    """A folder that holds a copy of the package, with the tiny pair as its small pair."""
    source = Path(aiflow_cli.__file__).parent
    weights = shutil.ignore_patterns("__pycache__", "small-*")
    shutil.copytree(source, tmp_path / "aiflow_cli", ignore=weights)
    pairs = tmp_path / "aiflow_cli" / "pairs"
    for folder, name in ((tiny_pair.target, "small-target"), (tiny_pair.draft, "small-draft")):
        shutil.copytree(folder, pairs / name)
    return tmp_path


def test_nothing_needed_is_missing(package: Path, tmp_path: Path) -> None:
    """Neither is anything asked of the hub: what counts is what lies in its cache."""
    cache = tmp_path / "hub-home" / "hub"
    code, findings = diagnose(package, HF_HOME=cache.parent, HF_HUB_OFFLINE="1")
    assert code == 0, findings
    assert findings.keys() >= NAMES
    assert findings.keys() & {"gpu", "gpu 0"}
    assert findings["pair small"]["state"] == "ok"
    assert findings["pair small-weak"]["state"] == "note"  # a default run can do without
    assert f"not in {cache}" in findings["hub cache"]["detail"]
    assert "offline mode" in findings["hub cache"]["detail"]
    assert findings["hub cache"]["remedy"].startswith("aiflow pull ")


@pytest.mark.start_up
def test_lines_for_people(package: Path) -> None:
    shutil.rmtree(package / "aiflow_cli" / "pairs" / "small-draft")
    done = aiflow("doctor", cwd=package)
    assert (done.returncode, done.stderr) == (3, "missing: pair small\n")
    assert any(line.split()[:2] == ["ok", "python"] for line in done.stdout.splitlines())
    assert "-> aiflow download" in done.stdout
    assert "MISSING  pair small" in done.stdout


def test_weights_cut_short(package: Path) -> None:
    weights = package / "aiflow_cli" / "pairs" / "small-target" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    code, findings = diagnose(package)
    assert code == 3
    assert "cannot be read" in findings["pair small"]["detail"]


def test_a_package_that_does_not_load(package: Path) -> None:
    """What needs it is not looked at; the rest is."""
    (package / "torch.py").write_text("raise OSError('libtorch_cpu.so: cannot open shared object file')\n")
    code, findings = diagnose(package)
    assert code == 3
    assert findings["gpu"]["state"] == "missing"
    assert "libtorch_cpu.so" in findings["gpu"]["detail"]
    assert findings["cores"]["state"] != "missing"


def test_a_package_that_is_too_old(package: Path) -> None:
    info = package / "msgspec-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: msgspec\nVersion: 0.1\n")
    code, findings = diagnose(package)
    assert code == 3
    assert findings["msgspec"]["detail"].startswith("0.1; needed is >=")
    assert findings["msgspec"]["remedy"].startswith("pip install 'msgspec>=")


@pytest.mark.parametrize(
    ("count", "state", "words"), [(0, "note", "none in"), (5, "note", "5 of 627"), (627, "ok", "627 in")]
)
def test_photographs_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, state: str, words: str
) -> None:
    monkeypatch.setenv("AIFLOW_DATA", str(tmp_path))
    folder = tmp_path / "vehicles-openimage"
    folder.mkdir()
    for name in ("something-else", *list(manifest())[:count]):
        (folder / f"{name}.jpg").touch()
    done = CliRunner().invoke(app, ["doctor", "--json"])
    finding = next(one for one in json.loads(done.stdout)["findings"] if one["name"] == "photographs")
    assert finding["state"] == state
    assert finding["detail"].startswith(words)
    assert (finding["remedy"] is None) == (state == "ok")


def test_a_folder_of_photographs_that_is_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one finding of many, not the end of the command."""
    monkeypatch.setenv("AIFLOW_DATA", "~nobody-of-that-name/x")
    findings = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)["findings"]
    (finding,) = [one for one in findings if one["name"] == "photographs"]
    assert "no user of that name" in finding["detail"]
    assert findings[-1]["name"] == "hub cache"


def test_one_core(package: Path) -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("cores cannot be chosen on this system")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        finding = diagnose(package)[1]["cores"]
    finally:
        os.sched_setaffinity(0, before)
    assert (finding["state"], finding["detail"][:2]) == ("note", "1:")


def test_a_variable_that_is_set_to_what_it_cannot_be(package: Path) -> None:
    """Other commands refuse it; the doctor says so and looks at the rest, although the hub's library stumbles on it."""
    code, findings = diagnose(package, AIFLOW_DEBUG="maybe", HF_HUB_ETAG_TIMEOUT="soon", NO_COLOR="1")
    assert code == 3
    assert findings["AIFLOW_DEBUG"]["detail"] == "AIFLOW_DEBUG='maybe' is neither yes nor no: write it as 1 or 0"
    assert findings["HF_HUB_ETAG_TIMEOUT"]["state"] == findings["hub cache"]["state"] == "missing"
    assert findings["disk"]["state"] == "ok"
    _, mended = diagnose(package, HF_HUB_ETAG_TIMEOUT="20", NO_COLOR="1")
    assert "HF_HUB_ETAG_TIMEOUT, NO_COLOR" in mended["environment"]["detail"]
