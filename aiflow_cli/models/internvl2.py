"""Checking, loading and saving checkpoints in the original InternVL2 layout (and loading transformers' own).

No `trust_remote_code`: the weights go into transformers' own InternVL classes, streamed tensor by tensor, each straight
to its device and dtype. Anything missing, surplus or misshapen is an error, raised before the first tensor is read and
under its name in the files: `from_pretrained` only warns, after minutes for a large model, and under its own names.
transformers is handed the tensors that were checked, not the folder: it would look there by rules of its own.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import InternVLConfig, InternVLForConditionalGeneration

from aiflow_cli.errors import CheckpointError, UsageError
from aiflow_cli.models.config import build_config, is_original, language_config, read_config
from aiflow_cli.models.conversion import is_internlm2, model_class, original_state
from aiflow_cli.models.files import find_weights, some
from aiflow_cli.models.prompt import IMAGE_CONTEXT, find_template
from aiflow_cli.models.quiet import quiet_transformers
from aiflow_cli.models.tokenizer import Tokenizer, load_tokenizer
from aiflow_cli.text import one_line

__all__ = ["build_config", "load_model", "save_checkpoint"]

_NO_ROOM = (
    "does not fit into the memory of this machine's devices: see `aiflow pairs show PAIR`, or use --quantize int8"
)
MOST_SPARE_ROWS = 1024
"""Embeddings are padded to multiples of 64 or 128, and some leave room for tokens to come."""
_Tensors = dict[str, Any]
"""By name, each as safetensors gives it before it is read."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def check_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder; raises CheckpointError unless it fits the embedding.

    InternLM2's embedding has a row for every token and no more; others may have spare rows at their end.
    """
    original, tokenizer = read_config(folder), load_tokenizer(folder)
    size = language_config(original).get("vocab_size")
    spare = 0 if is_internlm2(original) else MOST_SPARE_ROWS
    if isinstance(size, int) and not size - spare <= tokenizer.vocab_size <= size:
        both = f"the tokenizer in {folder} has {tokenizer.vocab_size} tokens, the model's embedding {size}"
        raise CheckpointError(f"{both}: they do not belong together")
    return tokenizer


def check_folder(folder: Path) -> None:
    """Raise CheckpointError for all that loading would refuse; no weight is read."""
    with _checked(folder, check_tokenizer(folder).token_id(IMAGE_CONTEXT)):
        pass


def meta_model(kind: type[InternVLForConditionalGeneration], config: Any) -> InternVLForConditionalGeneration:
    """A model without weights: names and shapes alone. Raises CheckpointError if there can be none of it."""
    try:
        with torch.device("meta"):
            return kind._from_config(config)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError, AssertionError) as error:
        raise CheckpointError(f"no model can be built of it ({one_line(error)})") from error


@contextlib.contextmanager
def _checked(
    folder: Path, image_token_id: int | None
) -> Iterator[tuple[type[InternVLForConditionalGeneration], InternVLConfig, _Tensors]]:
    """What a folder's model is made of: the class that reads its weights, its configuration, and tensors that fit."""
    original = read_config(folder)
    try:
        find_template(original)
        kind, config = model_class(original), build_config(original, image_token_id)
        state = meta_model(kind, config).state_dict()
    except CheckpointError as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error.__cause__
    with _open_tensors(folder) as tensors:
        if is_original(original):
            needed = original_state(state, config, is_internlm2(original))
            expected = {name: list(tensor.shape) for name, tensor in needed.items()}
            present = {name: list(tensor.get_shape()) for name, tensor in tensors.items()}
            _refuse(folder, "lacks", expected.keys() - present.keys())
            _refuse(folder, "has surplus", present.keys() - expected.keys())
            wrong = (name for name in expected if present[name] != expected[name])
            _refuse(folder, "has misshapen", (f"{name} {present[name]} instead of {expected[name]}" for name in wrong))
        else:  # `from_pretrained` tells what is amiss, under the names that the files have
            config.tie_word_embeddings = not any(name.endswith("lm_head.weight") for name in tensors)
        yield kind, config, tensors


@contextlib.contextmanager
def _open_tensors(folder: Path) -> Iterator[_Tensors]:
    """The tensors of a checkpoint by name, unread; they can be read while the context lasts.

    Raises CheckpointError for a file that is truncated or no safetensors, for a tensor in two files, and for one that
    is not where the index says.
    """
    weights = find_weights(folder)
    tensors: _Tensors = {}
    places: dict[str, str] = {}
    twice: set[str] = set()
    with contextlib.ExitStack() as stack:
        for path in weights.files:
            try:
                file = stack.enter_context(safe_open(path, "pt"))
            except (SafetensorError, OSError) as error:
                said = f"{path} is truncated or damaged ({one_line(error)}): fetch the checkpoint again"
                raise CheckpointError(said) from None
            names = file.keys()
            twice |= tensors.keys() & names
            tensors |= {name: file.get_slice(name) for name in names}
            places |= dict.fromkeys(names, path.name)
        _refuse(folder, "has in two files", twice)
        if weights.places is not None:
            wrong = (name for name, place in weights.places.items() if places.get(name) != place)
            _refuse(folder, "lacks, or has in another file than its index says,", wrong)
            _refuse(folder, "has outside its index", places.keys() - weights.places.keys())
        yield tensors


def _refuse(folder: Path, what: str, names: Iterable[str]) -> None:
    """Raise CheckpointError if there are any `names`."""
    if found := sorted(names):
        raise CheckpointError(f"the checkpoint in {folder} {what} tensors: {some(found)}; fetch it again")


def load_model(
    folder: Path,
    device: str = "cpu",
    dtype: str = "float32",
    image_token_id: int | None = None,
    max_memory: Mapping[int | str, int] | None = None,
    offload: Path | None = None,
) -> InternVLForConditionalGeneration:
    """The model of a checkpoint folder on `device` (a torch device, or "auto": accelerate's map), in evaluation mode.

    With "auto" it is cut over all GPUs, then the host's memory; `max_memory` bounds what each may hold, in bytes (by
    GPU number, "cpu"); what fits nowhere is read from the disk when it is used, if there is a folder `offload`. Raises
    CheckpointError for tensors that are missing, surplus or misshapen, UsageError if the model does not fit.
    """
    options: dict[str, Any] = {"local_files_only": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    if device != "cpu":
        options |= {"device_map": device, "max_memory": max_memory, "offload_folder": offload}
    try:
        with quiet_transformers(), _checked(folder, image_token_id) as (kind, config, tensors):
            model, info = kind.from_pretrained(None, config=config, state_dict=tensors, dtype=DTYPES[dtype], **options)
    except (torch.OutOfMemoryError, SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "offloaded to the disk" in str(error):
            raise UsageError(f"{folder.name} {_NO_ROOM}") from None
        reason = one_line(error, 300)
        raise CheckpointError(f"cannot load the weights in {folder}: {reason}; fetch the checkpoint again") from error
    _refuse(folder, "lacks", info["missing_keys"])
    _refuse(folder, "has surplus", info["unexpected_keys"])
    _refuse(folder, "has misshapen", [key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]])
    return model.eval()


def is_spread(model: InternVLForConditionalGeneration) -> bool:
    """Whether accelerate keeps the weights on more than one device (or the disk), and moves them when they are used."""
    return len(set(getattr(model, "hf_device_map", {}).values())) > 1


def save_checkpoint(
    model: InternVLForConditionalGeneration, original: dict[str, Any], folder: Path, dtype: str = "bfloat16"
) -> None:
    """Write `model` to `folder` in the original InternVL2 layout: config.json as given, model.safetensors in `dtype`.

    The tokenizer's files are the caller's to add. Tied embeddings are written twice, as the original layout has them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().to("cpu", DTYPES[dtype]).clone() for name, value in model.state_dict().items()}
    tensors = original_state(state, model.config, is_internlm2(original))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes it for its owner alone
    (folder / "config.json").write_text(json.dumps(original, indent=2) + "\n", encoding="utf-8")
