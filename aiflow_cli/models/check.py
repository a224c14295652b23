"""Is a checkpoint folder whole? Everything that loading would refuse, found without reading a weight."""

from __future__ import annotations

from pathlib import Path

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.config import build_config, is_original, language_config, naming, read_config
from aiflow_cli.models.conversion import is_internlm2, original_class
from aiflow_cli.models.prompt import IMAGE_CONTEXT, find_template
from aiflow_cli.models.tensors import check_tensors, expected_tensors, meta_model, open_tensors, shapes_of
from aiflow_cli.models.tokenizer import Tokenizer, load_tokenizer

MOST_SPARE_ROWS = 1024
"""Embeddings are padded to multiples of 64 or 128, and some leave room for tokens to come."""


def check_folder(folder: Path) -> None:
    """Raise CheckpointError unless configuration, tokenizer and tensors of a folder are all there and fit together."""
    original = read_config(folder)
    tokenizer = check_tokenizer(folder)
    with naming(folder):
        config = build_config(original, tokenizer.token_id(IMAGE_CONTEXT))
        empty = meta_model(original_class(original), config) if is_original(original) else None
    with open_tensors(folder) as tensors:
        present = shapes_of(tensors)
    if empty is not None:
        check_tensors(folder, present, expected_tensors(empty, is_internlm2(original)))


def check_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder; raises CheckpointError unless it fits the embedding and the template is known.

    InternLM2's embedding has a row for every token and no more; others may have spare rows at their end.
    """
    original = read_config(folder)
    with naming(folder):
        find_template(original)
    tokenizer = load_tokenizer(folder)
    size = language_config(original).get("vocab_size")
    spare = 0 if is_internlm2(original) else MOST_SPARE_ROWS
    if isinstance(size, int) and not size - spare <= tokenizer.vocab_size <= size:
        raise CheckpointError(
            f"the tokenizer in {folder} has {tokenizer.vocab_size} tokens, the model's embedding {size}: "
            "they do not belong together"
        )
    return tokenizer
