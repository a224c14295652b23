"""A model as the protocol sees it: a decoder with three verbs, prefill, extend and keep."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
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

    def keep(self, length: int, path: Sequence[int] = ()) -> None:
        """Forget all but the first `length` positions and, of those behind them, the ones at the offsets in `path`.

        Those move up to stand right behind the first `length`, as they were computed: a key stays turned for the
        position it had. Raises ValueError if fewer are cached, if the prompt's would go, or unless `path` increases.
        """


def check_keep(decoder: Decoder, length: int, path: Sequence[int]) -> None:
    """Raise ValueError unless `decoder` can keep these positions."""
    if not decoder.prompt_length <= length <= decoder.length:
        raise ValueError(
            f"cannot keep {length} positions: {decoder.length} are cached, {decoder.prompt_length} of them the prompt's"
        )
    behind = decoder.length - length
    if not all(one < other for one, other in pairwise((-1, *path, behind))):
        raise ValueError(f"cannot keep {list(path)} of the {behind} positions behind {length}: offsets must increase")
