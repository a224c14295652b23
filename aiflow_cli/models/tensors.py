"""Which tensors a checkpoint has and which it must have, by their names in the files; nothing but headers is read.

`from_pretrained` only warns of missing or surplus tensors, after minutes for a large model, and under its own names.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import InternVLForConditionalGeneration

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.conversion import original_state
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

    Raises CheckpointError for a file that is truncated or no safetensors, and for files that do not agree on their
    tensors.
    """
    weights = find_weights(folder)
    with contextlib.ExitStack() as stack:
        held: dict[Path, Any] = {path: stack.enter_context(_opened(path)) for path in weights.files}
        found = [(path.name, name) for path, file in held.items() for name in file.keys()]  # noqa: SIM118
        _check_places(folder, found, weights.places)
        yield {name: file.get_slice(name) for file in held.values() for name in file.keys()}  # noqa: SIM118


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is truncated or damaged ({one_line(error)}): fetch the checkpoint again"
        ) from None


def _check_places(folder: Path, found: list[tuple[str, str]], places: dict[str, str] | None) -> None:
    """Raise CheckpointError unless each tensor, of pairs (file, tensor), is in one file, and where the index says."""
    count = Counter(name for _, name in found)
    refuse(folder, "has in two files", (name for name in count if count[name] > 1))
    if places is not None:
        present = {name: file for file, name in found}
        wrong = (name for name in places if present.get(name) != places[name])
        refuse(folder, "lacks, or has in another file than its index says,", wrong)
        refuse(folder, "has outside its index", present.keys() - places.keys())


def check_tensors(folder: Path, tensors: Tensors, model: InternVLForConditionalGeneration, internlm2: bool) -> None:
    """Raise CheckpointError naming tensors that are missing, surplus or misshapen for a (meta) model in `folder`.

    The checkpoint is in the original layout; `internlm2` as for `original_state`.
    """
    state = original_state(dict(model.state_dict()), model.config, internlm2)
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
