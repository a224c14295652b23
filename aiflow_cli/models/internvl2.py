"""Loading and saving checkpoints in the original InternVL2 layout (and loading those already in transformers' layout).

No `trust_remote_code`: the weights go into transformers' own InternVL classes, streamed tensor by tensor by `from_pretrained`. Anything
missing, surplus or misshapen is an error; transformers alone would only warn and leave random values.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import InternVLConfig, InternVLForConditionalGeneration
from transformers.utils import logging as transformers_logging

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.config import build_config, read_config
from aiflow_cli.models.conversion import original_class, original_state

__all__ = ["build_config", "load_model", "save_checkpoint"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    folder: Path, device: str = "cpu", dtype: str = "float32", image_token_id: int = 0
) -> InternVLForConditionalGeneration:
    """The model of a checkpoint folder on `device` (a torch device, or "auto" for accelerate's device map), in evaluation mode.

    Raises CheckpointError naming the first tensors that are missing, surplus or misshapen, or why a file cannot be read.
    """
    original = read_config(folder)
    if not list(folder.glob("*.safetensors")):
        raise CheckpointError(f"{folder} holds no *.safetensors weights: fetch the checkpoint again")
    if original.get("model_type") == "internvl":
        kind, config = InternVLForConditionalGeneration, InternVLConfig(**original)
    else:
        kind, config = original_class(original), build_config(original, image_token_id)
    with _quiet_transformers():
        model, info = _from_pretrained(kind, folder, config, device, dtype)
    _refuse(folder, "lacks", info["missing_keys"])
    _refuse(folder, "has surplus", info["unexpected_keys"])
    _refuse(folder, "has misshapen", [key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]])
    return model.eval()


def _from_pretrained(kind: Any, folder: Path, config: Any, device: str, dtype: str) -> tuple[Any, dict[str, Any]]:
    try:
        result: tuple[Any, dict[str, Any]] = kind.from_pretrained(
            folder,
            config=config,
            dtype=DTYPES[dtype],
            device_map=device if device != "cpu" else None,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"cannot load the weights in {folder}: {reason}; fetch the checkpoint again") from error
    return result


def _refuse(folder: Path, what: str, keys: Sequence[str]) -> None:
    if keys:
        names = sorted(keys)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise CheckpointError(
            f"the checkpoint in {folder} {what} tensors: {', '.join(names[:3])}{more}; fetch it again"
        )


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """What transformers would log of a bad checkpoint is raised as an error; its progress bar belongs to nobody."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def save_checkpoint(
    model: InternVLForConditionalGeneration, original: dict[str, Any], folder: Path, dtype: str = "bfloat16"
) -> None:
    """Write `model` to `folder` in the original InternVL2 layout: config.json as given, model.safetensors in `dtype`.

    The tokenizer's files are the caller's to add. Embeddings that are tied in `model` are written twice, as the original layout has them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().to("cpu", DTYPES[dtype]).clone() for name, value in model.state_dict().items()}
    save_file(original_state(state, model.config), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(original, indent=2) + "\n", encoding="utf-8")
