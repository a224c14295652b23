"""A vision-language model: weights, tokenizer, preprocessing and prompt of one checkpoint, as the protocol needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import InternVLForConditionalGeneration

from aiflow_cli.errors import UsageError
from aiflow_cli.models.config import language_config, read_config
from aiflow_cli.models.decoder import Decoder, ReferenceDecoder
from aiflow_cli.models.hub import display_name
from aiflow_cli.models.internvl2 import DTYPES, check_tokenizer, is_spread, load_model
from aiflow_cli.models.lean import LeanDecoder, LeanWeights
from aiflow_cli.models.preprocessing import Tiling, pixel_values
from aiflow_cli.models.prompt import IMAGE_CONTEXT, Prompt, check_question, find_template, prompt_ids
from aiflow_cli.models.quantize import check_kind, quantize_model
from aiflow_cli.models.tokenizer import Tokenizer
from aiflow_cli.wire.messages import Fingerprint


class VisionLanguageModel:
    """One checkpoint, loaded. `eos_ids` end an answer; `fingerprint` is what device and server compare."""

    def __init__(
        self,
        name: str,
        model: InternVLForConditionalGeneration,
        tokenizer: Tokenizer,
        original: dict[str, Any],
        quantize: str | None = None,
    ) -> None:
        self.name, self.model, self.tokenizer, self.original, self.quantize = name, model, tokenizer, original, quantize
        model.config.name_or_path = name  # what the model calls itself in errors
        self.tiling = Tiling.from_config(original)
        self.template = find_template(original)
        self.eos_ids = frozenset([tokenizer.token_id(self.template.stop)])
        self.tokens_per_tile: int = model.config.image_seq_length
        self.image_tokens = self.tokens_per_tile * self.tiling.most
        """The most positions that an image can take."""
        self.positions = int(model.config.get_text_config().max_position_embeddings)
        """How many positions, of prompt and answer together, the model was made for."""
        self.parameters = int(model.num_parameters())
        language = language_config(original)
        names = language.get("architectures") or [language.get("model_type", "?")]
        architecture = f"{(original.get('architectures') or ['?'])[0]}/{names[0]}"
        self.fingerprint = Fingerprint(architecture, tokenizer.sha256, tokenizer.vocab_size)
        """What must agree between a draft and its target for token ids to mean the same."""
        plain = quantize is None and not is_spread(model)
        self._lean = LeanWeights(model) if plain and LeanDecoder.covers(model) else None

    @classmethod
    def from_folder(
        cls, folder: Path, device: str = "cpu", dtype: str = "float32", quantize: str | None = None
    ) -> VisionLanguageModel:
        """Load a checkpoint folder; `quantize` ("int8", "int4") rounds weights (`models/quantize.py`).

        Raises CheckpointError for a bad checkpoint, UsageError for an unknown dtype or an absent device,
        PrerequisiteError without torchao.
        """
        if dtype not in DTYPES:
            raise UsageError(f"dtype {dtype!r} is not known: use {', '.join(DTYPES)}")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UsageError(f"device {device!r} is not there: torch sees no CUDA device; use --device cpu")
        if quantize is not None:
            check_kind(quantize, device, dtype)
        original, tokenizer = read_config(folder), check_tokenizer(folder)
        model = load_model(folder, device if quantize is None else "cpu", dtype, tokenizer.token_id(IMAGE_CONTEXT))
        if quantize is not None:
            quantize_model(model, quantize, device)
        return cls(display_name(folder), model, tokenizer, original, quantize)

    def check_request(self, question: str, max_new_tokens: int) -> None:
        """Raise UsageError for what no image could be asked: a bad question, or one that leaves the answer no room."""
        ids = prompt_ids(self.tokenizer, self.template, question, self.tokens_per_tile)
        self.room(len(ids), max_new_tokens)

    def room(self, prompt_tokens: int, max_new_tokens: int) -> int:
        """Positions that a response takes at most; raises UsageError if the model has not so many."""
        needed = prompt_tokens + max_new_tokens
        if needed > self.positions:
            left = self.positions - prompt_tokens
            remedy = f"ask for at most {left} with --max-new-tokens" if left > 0 else "shorten the prompt"
            whole = f"prompt ({prompt_tokens} tokens, image included) and answer (up to {max_new_tokens})"
            raise UsageError(f"{whole} do not fit into the {self.positions} positions of {self.name}: {remedy}")
        return needed

    def prepare(self, image: bytes, question: str) -> Prompt:
        """The prompt for an image's bytes and a question; raises ImageError, and UsageError for a bad question."""
        check_question(self.template, question)
        pixels = pixel_values(image, self.tiling)
        return Prompt(prompt_ids(self.tokenizer, self.template, question, self.tokens_per_tile * len(pixels)), pixels)

    def decoder(self, max_length: int) -> Decoder:
        """A new decoder with room for `max_length` positions: the lean one where it covers the model.

        Raises UsageError beyond the model's own positions.
        """
        self.room(0, max_length)
        if self._lean is not None:
            return LeanDecoder(self.model, self._lean, max_length)
        return ReferenceDecoder(self.model)
