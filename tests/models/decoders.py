"""Small random models, prompts, and random walks of a decoder, for the tests of both decoders."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor
from transformers import InternVLForConditionalGeneration

from aiflow_cli.models.decoder import Decoder, ReferenceDecoder
from aiflow_cli.models.lean import LeanDecoder
from aiflow_cli.models.prompt import Prompt
from aiflow_cli.training.sizes import DRAFT, original_config
from tests.models.makers import random_model

VOCABULARY = 120
IMAGE_TOKEN = VOCABULARY - 1
ROOM = 128
EXACT = 1e-5


class Shape(NamedTuple):
    """A language model's layers, width, heads, heads of k and v, and feed-forward width."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int


SHAPES = (Shape(2, 48, 4, 4, 64), Shape(3, 64, 4, 2, 96), Shape(2, 48, 6, 1, 40), Shape(1, 32, 1, 1, 64))


@cache
def model(shape: Shape) -> InternVLForConditionalGeneration:
    """A model of that shape with random weights, small enough for float32 to be within 1e-5 of float64."""
    size = dataclasses.replace(
        DRAFT, vision=(1, 32, 2, 48), language=(shape.layers, shape.width, shape.heads, shape.ffn)
    )
    config = original_config(size, VOCABULARY)
    config["llm_config"]["num_key_value_heads"] = shape.kv_heads
    made = random_model(config, IMAGE_TOKEN)
    for parameter in made.model.language_model.layers.parameters():
        if parameter.ndim == 2:
            parameter.data *= 0.5
    return made


def text_prompt(length: int = 7) -> Prompt:
    """A prompt without an image."""
    return Prompt([(5 * i + 3) % IMAGE_TOKEN for i in range(length)])


def image_prompt(tiles: int = 1) -> Prompt:
    """A prompt with an image of random pixels."""
    pixels = torch.randn(tiles, 3, DRAFT.view, DRAFT.view, generator=torch.Generator().manual_seed(tiles))
    return Prompt([3, 8, *[IMAGE_TOKEN] * (DRAFT.image_tokens * tiles), 11, 2], pixels)


PROMPTS = {"text": text_prompt(), "one token": text_prompt(1), "image": image_prompt(), "two tiles": image_prompt(2)}


class Step(NamedTuple):
    """Go back by `back` positions (as far as the prompt), then append `tokens`."""

    back: int
    tokens: tuple[int, ...]


tokens = st.lists(st.integers(0, IMAGE_TOKEN - 1), min_size=1, max_size=9).map(tuple)
walks = st.lists(st.builds(Step, st.integers(0, 12), tokens), min_size=1, max_size=5)


def walk(decoder: Decoder, prompt: Prompt, steps: list[Step]) -> list[int]:
    """Prefill, then take the steps; what the cache holds of the output at the end."""
    decoder.prefill(prompt)
    held: list[int] = []
    for step in steps:
        held = held[: max(0, len(held) - step.back)]
        decoder.keep(decoder.prompt_length + len(held))
        decoder.extend(step.tokens)
        held += step.tokens
    return held


def cached_rows(decoder: Decoder) -> Tensor:
    """What the cache holds, a row for each position: [length, numbers of all layers]."""
    if isinstance(decoder, LeanDecoder):
        return decoder._rows[:, : decoder.length].transpose(0, 1).flatten(1).clone()
    assert isinstance(decoder, ReferenceDecoder)
    states = [part for layer in decoder._cache.layers for part in (layer.keys, layer.values)]
    return torch.cat([part[0].transpose(0, 1).flatten(1) for part in states], 1)


def fresh_logits(shape: Shape, prompt: Prompt, held: list[int]) -> Tensor:
    """transformers' own logits of a sequence computed in one pass: [1 + held, vocabulary], the prompt's last first."""
    ids = torch.tensor([prompt.input_ids + held])
    with torch.inference_mode():
        logits: Tensor = model(shape)(input_ids=ids, pixel_values=prompt.pixel_values, use_cache=False).logits[0]
    return logits[len(prompt) - 1 :]


def reference(shape: Shape) -> ReferenceDecoder:
    """A new reference decoder of a model."""
    return ReferenceDecoder(model(shape))


def error(got: Tensor, expected: Tensor) -> float:
    """The largest difference."""
    assert got.shape == expected.shape
    return float((got - expected).abs().max())
