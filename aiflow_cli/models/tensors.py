"""Which tensors a checkpoint has and which it must have, by their names in the files; nothing but headers is read.

`from_pretrained` only warns of missing or surplus tensors, after minutes for a large model, and under its own names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import InternVLForConditionalGeneration

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.conversion import InternVL2, original_state
from aiflow_cli.models.files import find_weights, some
from aiflow_cli.text import one_line

Tensors = dict[str, Any]
"""By name, each as safetensors gives it before it is read."""


def meta_model(kind: type[InternVLForConditionalGeneration], config: Any) -> InternVLForConditionalGeneration:
    """A model without weights: names and shapes alone. Raises CheckpointError if there can be none of it."""
    try:
        with torch.device("meta"):
            return kind._from_config(config)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError, AssertionError) as error:
        raise CheckpointError(f"no model can be built of it ({one_line(error)})") from error


@contextlib.contextmanager
def open_tensors(folder: Path) -> Iterator[Tensors]:
    """The tensors of a checkpoint by name, unread; they can be read while the context lasts.

    Raises CheckpointError for a file that is truncated or no safetensors, for a tensor in two files, and for one that
    is not where the index says.
    """
    weights = find_weights(folder)
    tensors: Tensors = {}
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
        refuse(folder, "has in two files", twice)
        if weights.places is not None:
            wrong = (name for name, place in weights.places.items() if places.get(name) != place)
            refuse(folder, "lacks, or has in another file than its index says,", wrong)
            refuse(folder, "has outside its index", places.keys() - weights.places.keys())
        yield tensors


def check_tensors(folder: Path, tensors: Tensors, model: InternVLForConditionalGeneration) -> None:
    """Raise CheckpointError naming tensors that are missing, surplus or misshapen for a (meta) model in `folder`.

    The checkpoint is in the original layout.
    """
    state = original_state(model.state_dict(), model.config, type(model) is InternVL2)
    expected = {name: list(tensor.shape) for name, tensor in state.items()}
    present = {name: list(tensor.get_shape()) for name, tensor in tensors.items()}
    refuse(folder, "lacks", expected.keys() - present.keys())
    refuse(folder, "has surplus", present.keys() - expected.keys())
    wrong = (name for name in expected if present[name] != expected[name])
    refuse(folder, "has misshapen", (f"{name} {present[name]} instead of {expected[name]}" for name in wrong))


def refuse(folder: Path, what: str, names: Iterable[str]) -> None:
    """Raise CheckpointError if there are any `names`."""
    if found := sorted(names):
        raise CheckpointError(f"the checkpoint in {folder} {what} tensors: {some(found)}; fetch it again")
