"""The reference decoder: transformers' own forward and cache, for every architecture; the lean one's measure."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, InternVLForConditionalGeneration

from aiflow_cli.models.decoder import Decoder
from aiflow_cli.models.finite import best_ids, not_finite
from aiflow_cli.models.prompt import Prompt


class ReferenceDecoder(Decoder):
    """Decoder (see `models/decoder.py`) over transformers' InternVL classes; its DynamicCache is never recomputed."""

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
