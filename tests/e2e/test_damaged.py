"""A checkpoint whose numbers are none ends a run with one line, on whichever side it is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import TinyPair
from tests.e2e.tools import aiflow, one_line


@pytest.mark.parametrize("role", ["target", "draft"])
def test_a_run_with_a_damaged_model(role: str, tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / f"hurt-{role}"
    shutil.copytree(getattr(tiny_pair, role), folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["language_model.model.layers.1.attention.wo.weight"][0] = torch.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    done = aiflow("run", *tiny_pair.options, f"--{role}", folder, "--data", photographs, "-o", tmp_path / "result")
    assert done.returncode == 1
    reason = "computes NaN or infinity, first in layer 1 of its language model: fetch the checkpoint again"
    assert f"hurt-{role} {reason}" in done.stderr
    if role == "target":  # nothing can be made
        assert "the server gave up" in one_line(done)
    else:  # server-only can
        assert "3 of 6 trials failed, the others are in " in one_line(done)
        assert done.stderr.count("failed: speculative-4 of small on image photo") == 3
