"""The tiny pair on a hub that stands in for the real one, and commands that ask it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from aiflow_cli.cli.app import app
from aiflow_cli.fetching import RetryPolicy
from tests.cli.hub_server import Hub, Process, Run, serving
from tests.conftest import TinyPair
from tests.e2e.tools import AIFLOW


@pytest.fixture
def hub(tiny_pair: TinyPair, tmp_path: Path) -> Iterator[Hub]:
    """The tiny pair as two repositories, each with files that no one needs."""
    folders = {}
    for name, source in (("Tiny/Target", tiny_pair.target), ("Tiny/Draft", tiny_pair.draft)):
        folders[name] = tmp_path / "remote" / name.replace("/", "-")
        shutil.copytree(source, folders[name])
        (folders[name] / "modeling_internvl_chat.py").write_text("raise SystemExit('remote code')")
        (folders[name] / "pytorch_model.bin").write_bytes(b"pickle")
    with serving(Hub(folders)) as running:
        yield running


@pytest.fixture
def environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """For a process of its own."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return ours | {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def process(environment: dict[str, str], tmp_path: Path) -> Process:
    def call(*arguments: str | Path, limit: Callable[[], None] | None = None, **changes: str) -> Any:
        return subprocess.run(
            [*AIFLOW, *map(str, arguments)],
            cwd=tmp_path,
            env=environment | changes,
            text=True,
            capture_output=True,
            timeout=200,
            check=False,
            preexec_fn=limit,
        )

    return call


@pytest.fixture
def run(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command in this process. The hub's library has read its settings already: they are set in it."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    for module in ("hub", "pull"):
        monkeypatch.setattr(f"aiflow_cli.models.{module}.POLICY", RetryPolicy(first_pause_s=0.001, longest_pause_s=1.0))
    return lambda *arguments: CliRunner().invoke(app, list(arguments))
