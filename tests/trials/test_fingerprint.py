"""What a trial runs is what its fingerprint covers: held against what a server and a link really load."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import aiflow_cli
from aiflow_cli.trials.fingerprint import code, packages, sources

ROOT = Path(aiflow_cli.__file__).parent
COVERED = (
    *("__main__.py", "cli/app.py", "cli/errors.py", "cli/serve.py", "cli/link.py", "errors.py", "units.py"),
    *(
        "models/lean.py",
        "models/config.py",
        "models/files.py",
        "models/tokenizer.py",
        "node/server.py",
        "node/device.py",
    ),
    *(
        "decoding/exact.py",
        "wire/framing.py",
        "link/relay.py",
        "world/live.py",
        "world/record.py",
        "world/recorder.py",
        "world/conditions.py",
        "trials/schedule.py",
    ),
)
ELSEWHERE = (
    "cli/report.py",
    "analysis/report.py",
    "images/scenes.py",
    "training/recipe.py",
    "trials/run.py",
    "trials/store.py",
)
"""What gives images, reads results, prints or trains may change."""


def names() -> set[str]:
    return {str(path.relative_to(ROOT)) for path in sources(ROOT)}


def test_what_a_trial_runs_through_is_covered() -> None:
    assert set(COVERED) - names() == set()
    assert set(ELSEWHERE) & names() == set()


def test_a_change_in_any_of_them_changes_it(tmp_path: Path) -> None:
    copy = tmp_path / "aiflow_cli"
    shutil.copytree(ROOT, copy, ignore=lambda folder, found: [n for n in found if not _is_source(Path(folder), n)])
    before = code(copy)
    assert before == code()
    for name in (*COVERED, *ELSEWHERE):
        text = (copy / name).read_text()
        (copy / name).write_text(text + "\n# changed\n")
        assert (code(copy) != before) == (name not in ELSEWHERE), name
        (copy / name).write_text(text)


def _is_source(folder: Path, name: str) -> bool:
    return name.endswith(".py") or ((folder / name).is_dir() and name != "__pycache__")


@pytest.mark.parametrize("command", [("serve", "--listen"), ("link", "--to", "127.0.0.1:9", "--listen")], ids=" ".join)
def test_what_a_process_really_loads_is_covered(command: tuple[str, ...], tmp_path: Path) -> None:
    options = [sys.executable, "-X", "importtime", "-m", "aiflow_cli", *command, "127.0.0.1:0"]
    with (tmp_path / "errors").open("w+") as errors:
        with subprocess.Popen(options, stdout=subprocess.PIPE, stderr=errors, cwd=tmp_path) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGTERM)
        errors.seek(0)
        loaded = set(re.findall(r"\| +aiflow_cli\.([\w.]+)$", errors.read(), re.MULTILINE))
    files = {f"{name.replace('.', '/')}.py" for name in loaded}
    modules = {name for name in files if (ROOT / name).is_file()}
    others = {name for name in modules if name.startswith("cli/")}  # `cli/app.py` names all commands
    assert len(modules - others) > (3 if command[0] == "link" else 20)
    assert modules - others - names() == set()


def test_packages_that_compute_are_named_with_their_versions() -> None:
    assert f"sentencepiece {version('sentencepiece')}, " in packages()
    for name in ("torch", "transformers", "accelerate", "torchao", "safetensors", "numpy"):
        assert re.search(rf"(^|, ){name} \S+", packages())
