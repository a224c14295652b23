"""A model as the protocol sees it: a decoder with three verbs, prefill, extend and rollback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from aiflow_cli.models.prompt import Prompt


class Decoder(Protocol):
    """Greedy decoding over a cache. One draft step is `extend` by one token, a verification is `extend` by gamma + 1.

    `prefill` and `extend` raise CheckpointError when what they compute are no numbers (`models/finite.py`).
    """

    prompt_length: int
    """Cached positions of the prompt; 0 before `prefill`."""
    length: int
    """Cached positions, the prompt's included."""
    last_logits: Tensor
    """Logits of the last call: [k, vocabulary]."""

    def prefill(self, prompt: Prompt) -> int:
        """Start anew with `prompt`; returns the id of the most likely next token."""

    def extend(self, tokens: Sequence[int]) -> list[int]:
        """Append k tokens; returns for each the most likely id after it. Raises ValueError beyond the cache's room."""

    def rollback(self, length: int) -> None:
        """Forget what is cached beyond `length` positions; raises ValueError if fewer are cached, or the prompt's would go."""


def check_rollback(decoder: Decoder, length: int) -> None:
    """Raise ValueError unless `decoder` can go back to `length` positions."""
    if not decoder.prompt_length <= length <= decoder.length:
        raise ValueError(
            f"cannot roll back to {length}: {decoder.length} positions are cached, {decoder.prompt_length} of them the prompt's"
        )
