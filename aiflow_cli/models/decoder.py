"""A model as the protocol sees it: a decoder with three verbs, prefill, extend and keep."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from aiflow_cli.models.prompt import Prompt


class Decoder:
    """Greedy decoding over a cache. One draft step is `extend` by one token, a verification is `extend` by gamma + 1.

    `prefill` and `extend` raise CheckpointError when what they compute are no numbers (`models/finite.py`). What is
    here is what decoders share: how much is cached, the ids that made it, and what is kept of it.
    """

    def __init__(self) -> None:
        self._prompt = Prompt([])
        self._ids: list[int] = []
        self.prompt_length = 0
        """Cached positions of the prompt; 0 before `prefill`."""
        self.length = 0
        """Cached positions, the prompt's included."""
        self.last_logits: Tensor = torch.empty(0)
        """Logits of the last call: [k, vocabulary]."""

    def prefill(self, prompt: Prompt) -> int:
        """Start anew with `prompt`; returns the id of the most likely next token."""
        raise NotImplementedError

    def extend(self, tokens: Sequence[int]) -> list[int]:
        """Append k tokens; returns for each the most likely id after it. Raises ValueError beyond the cache's room."""
        raise NotImplementedError

    def keep(self, length: int, path: Sequence[int] = ()) -> None:
        """Forget all but the first `length` positions and, of those behind them, the ones at the offsets in `path`.

        Those move up to stand right behind the first `length`, as they were computed: a key stays turned for the
        position it had. Raises ValueError if fewer are cached, if the prompt's would go, or unless `path` increases.
        """
        if not self.prompt_length <= length <= self.length:
            cached = f"{self.length} are cached, {self.prompt_length} of them the prompt's"
            raise ValueError(f"cannot keep {length} positions: {cached}")
        behind = self.length - length
        if not all(one < other for one, other in pairwise((-1, *path, behind))):
            said = f"cannot keep {list(path)} of the {behind} positions behind {length}"
            raise ValueError(f"{said}: offsets must increase, from 0 on")
        kept = [length + offset for offset in path]
        stop = length + len(kept)
        self._ids[length:stop] = [self._ids[place] for place in kept]
        self._keep_rows(length, stop, kept)
        self.length = stop

    def _keep_rows(self, start: int, stop: int, kept: list[int]) -> None:
        """Copy the rows at `kept` to `start` and behind; those from `stop` on are forgotten."""
        raise NotImplementedError
