"""A model as the protocol sees it: a decoder with three verbs, prefill, extend and keep; and the plain one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from transformers import DynamicCache, InternVLForConditionalGeneration

from aiflow_cli.models.finite import best_ids, not_finite
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


class ReferenceDecoder(Decoder):
    """transformers' own forward and cache, for every architecture; the lean decoder's measure."""

    def __init__(self, model: InternVLForConditionalGeneration) -> None:
        super().__init__()
        self._model = model
        self._cache = DynamicCache()

    def prefill(self, prompt: Prompt) -> int:
        """See Decoder."""
        self._cache = DynamicCache(config=self._model.config.get_text_config())
        inputs: dict[str, Tensor] = {}
        if prompt.pixel_values is not None:
            inputs["pixel_values"] = prompt.pixel_values.to(self._model.device, self._model.dtype)
        self.length = 0
        self._prompt = prompt
        token = self._forward(prompt.input_ids, last_only=True, **inputs)[0]
        self.prompt_length = self.length
        return token

    def extend(self, tokens: Sequence[int]) -> list[int]:
        """See Decoder."""
        return self._forward(tokens)

    def _keep_rows(self, start: int, stop: int, kept: list[int]) -> None:
        with torch.inference_mode():
            for layer in self._cache.layers if kept else ():
                for states in (layer.keys, layer.values):
                    states[..., start:stop, :] = states[..., kept, :]
        self._cache.crop(min(0, stop - self.length))

    def _forward(self, tokens: Sequence[int], last_only: bool = False, **inputs: Tensor) -> list[int]:
        with torch.inference_mode():
            ids = torch.tensor([list(tokens)], device=self._model.device)
            output = self._model(
                input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=int(last_only), **inputs
            )
            self._ids[self.length :] = tokens
            self.length += len(tokens)
            self.last_logits = output.logits[0].float()
            if (chosen := best_ids(self.last_logits)) is None:
                raise not_finite(self._model, self._ids, self._prompt.pixel_values)
            return chosen
