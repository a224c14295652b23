"""Which tensors a checkpoint has and which it must have, by their names in the files; nothing but headers is read.

`from_pretrained` only warns of tensors that are missing or surplus, after minutes for a large model, and under its own names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import InternVLForConditionalGeneration

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.conversion import original_state

Shapes = dict[str, tuple[int, ...]]
INDEX = "model.safetensors.index.json"
_NAMED = 3


def meta_model(kind: type[InternVLForConditionalGeneration], config: Any) -> InternVLForConditionalGeneration:
    """A model without weights: names and shapes alone."""
    with torch.device("meta"):
        return kind._from_config(config)


def expected_tensors(model: InternVLForConditionalGeneration, internlm2: bool) -> Shapes:
    """The tensors that a checkpoint in the original layout must have for a (meta) model."""
    state = original_state(dict(model.state_dict()), model.config, internlm2)
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a checkpoint's weights; raises CheckpointError if one is missing."""
    index = folder / INDEX
    if not index.exists():
        found = sorted(folder.glob("*.safetensors"))
        if not found:
            raise CheckpointError(f"{folder} holds no *.safetensors weights: fetch the checkpoint again")
        return found
    try:
        document = json.loads(index.read_text(encoding="utf-8"))
        _, weight_map = document["metadata"], document["weight_map"]  # transformers wants both
        names = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} cannot be read ({error}): fetch the checkpoint again") from None
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} lacks {_some(missing)} of {len(names)} weight files: fetch the checkpoint again"
        )
    return [folder / name for name in names]


def present_tensors(folder: Path) -> Shapes:
    """The tensors of a checkpoint's weight files; raises CheckpointError for a file that is truncated or no safetensors."""
    shapes: Shapes = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, "pt") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{path} is truncated or damaged ({reason}): fetch the checkpoint again") from None
    return shapes


def check_tensors(folder: Path, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError naming tensors that are missing, surplus or misshapen in the checkpoint of `folder`."""
    present = present_tensors(folder)
    refuse(folder, "lacks", expected.keys() - present.keys())
    refuse(folder, "has surplus", present.keys() - expected.keys())
    wrong = [name for name in expected if present[name] != expected[name]]
    refuse(
        folder, "has misshapen", (f"{name} {list(present[name])} instead of {list(expected[name])}" for name in wrong)
    )


def refuse(folder: Path, what: str, names: Iterable[str]) -> None:
    """Raise CheckpointError if there are any `names`."""
    if found := sorted(names):
        raise CheckpointError(f"the checkpoint in {folder} {what} tensors: {_some(found)}; fetch it again")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
