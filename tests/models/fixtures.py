"""The reference fixtures: two small checkpoints made by the original InternVL2 code, and what it computes from them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from aiflow_cli.models.vlm import VisionLanguageModel

ROOT = Path(__file__).parents[3] / "shared" / "fixtures" / "internvl2"
MODELS = ("tiny-2b", "tiny-26b")
SAMPLES = ("square", "wide", "tall_alpha", "text_only")
PICTURES = SAMPLES[:3]

needed = pytest.mark.skipif(not ROOT.is_dir(), reason=f"the reference fixtures are not at {ROOT}")


@cache
def document(name: str) -> dict[str, Any]:
    """A JSON document of the reference."""
    found: dict[str, Any] = json.loads((ROOT / "reference" / f"{name}.json").read_text(encoding="utf-8"))
    return found


@cache
def tensors(name: str) -> dict[str, Tensor]:
    """The tensors of a file of the reference."""
    found: dict[str, Tensor] = load_file(ROOT / "reference" / f"{name}.safetensors")
    return found


def picture(name: str) -> bytes:
    """An image of the fixtures."""
    return (ROOT / "images" / f"{name}.png").read_bytes()


@cache
def model(name: str) -> VisionLanguageModel:
    """A checkpoint of the fixtures, in float32 on the CPU."""
    return VisionLanguageModel.from_folder(ROOT / name)


def sample(model_name: str, name: str) -> dict[str, Any]:
    """What the original code makes of one picture (or of the question alone)."""
    found: dict[str, Any] = document("reference")["models"][model_name]["samples"][name]
    return found
