"""A small experiment over the tiny pair, for tests of sweeps."""

from __future__ import annotations

from pathlib import Path

from aiflow_cli.trials.run import Step
from aiflow_cli.trials.spec import ExperimentSpec
from aiflow_cli.trials.specfile import load_spec
from tests.conftest import TinyPair

IMAGES = 3
BLOCK = 2 * (2 + 2 + 1)
"""Trials of a block: two links with server-only twice, two draft lengths, and on-device."""


def write_spec(folder: Path, pair: TinyPair, data: Path | str, more: str = "") -> Path:
    """The experiment's file. The delay makes trials long enough to be interrupted, at no cost of time to the
    processor.
    """
    path = folder / "tiny.toml"
    path.write_text(
        f"""
name = "tiny"
about = "a test"
pairs = "small"
methods = ["server-only", "speculative", "on-device"]
gammas = [2, 5]
server_only_per_block = 2
data = "{data}"
max_new_tokens = 10
{more}
[checkpoints.small]
draft = "{pair.draft}"
target = "{pair.target}"

[link]
rate = "1MB/s"
delay = ["0", "20ms"]
""",
        encoding="utf-8",
    )
    return path


def read_spec(folder: Path, pair: TinyPair, photographs: Path, *overrides: str) -> ExperimentSpec:
    """The experiment, with `--set` values."""
    return load_spec(str(write_spec(folder, pair, photographs)), overrides)


def silent(_: Step) -> None:
    """Show nothing of a run."""
