"""Weights in 8 and 4 bits on the tiny pair: near the original, and speculation gives that target's output."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from aiflow_cli.errors import PrerequisiteError, UsageError
from aiflow_cli.models.decoder import Decoder, ReferenceDecoder
from aiflow_cli.models.prompt import Prompt
from aiflow_cli.models.quantize import check_kind, quantised_layers
from aiflow_cli.models.vlm import VisionLanguageModel
from tests.conftest import TinyPair, photograph

TORCHAO = find_spec("torchao") is not None
needs_torchao = pytest.mark.skipif(not TORCHAO, reason="torchao is not installed: pip install 'aiflow-cli[quantize]'")
NEW_TOKENS = 24


def prefilled(model: VisionLanguageModel) -> tuple[Decoder, list[int], Prompt]:
    prompt = model.prepare(photograph(), "Describe the scene.")
    decoder = model.decoder(len(prompt) + NEW_TOKENS + 8)
    return decoder, [decoder.prefill(prompt)], prompt


def greedy(model: VisionLanguageModel) -> list[int]:
    decoder, ids, _ = prefilled(model)
    while len(ids) < NEW_TOKENS:
        ids += decoder.extend(ids[-1:])
    return ids


def speculative(target: VisionLanguageModel, draft: VisionLanguageModel, gamma: int) -> tuple[list[int], int]:
    """Output of draft and verify, and how many verifications it took."""
    verifier, ids, _ = prefilled(target)
    drafter, _, _ = prefilled(draft)
    rounds = 0
    while len(ids) < NEW_TOKENS:
        drafter.keep(drafter.prompt_length)
        drafted = [drafter.extend(ids)[-1]]
        while len(drafted) < gamma:
            drafted += drafter.extend(drafted[-1:])
        verifier.keep(verifier.prompt_length + len(ids) - 1)
        predicted = verifier.extend([ids[-1], *drafted])
        accepted = next((i for i, token in enumerate(drafted) if token != predicted[i]), gamma)
        ids += [*drafted[:accepted], predicted[accepted]]
        rounds += 1
    return ids[:NEW_TOKENS], rounds


@needs_torchao
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_near_the_original(kind: str, dtype: str, tiny_pair: TinyPair) -> None:
    plain = VisionLanguageModel.from_folder(tiny_pair.target, dtype=dtype)
    quantised = VisionLanguageModel.from_folder(tiny_pair.target, dtype=dtype, quantize=kind)
    assert isinstance(quantised.decoder(64), ReferenceDecoder)
    prompt = plain.prepare(photograph(), "Describe the scene.")
    decoders = (ReferenceDecoder(plain.model), ReferenceDecoder(quantised.model))
    for decoder in decoders:
        decoder.prefill(prompt)
    expected, got = (decoder.last_logits[-1] for decoder in decoders)
    error = float((got - expected).norm() / expected.norm())
    assert 0 < error < (0.1 if kind == "int8" else 0.6)
    assert all(type(layer.weight.data).__name__ != "Tensor" for layer, _ in quantised_layers(quantised.model))


@needs_torchao
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_speculation_gives_the_quantised_targets_own_output(kind: str, tiny_pair: TinyPair) -> None:
    target = VisionLanguageModel.from_folder(tiny_pair.target, quantize=kind)
    draft = VisionLanguageModel.from_folder(tiny_pair.draft, quantize=kind)
    output, rounds = speculative(target, draft, 4)
    assert output == greedy(target)
    assert rounds < NEW_TOKENS - 1  # some drafts are accepted


@needs_torchao
def test_bytes_are_saved(tiny_pair: TinyPair) -> None:
    quantised = VisionLanguageModel.from_folder(tiny_pair.target, quantize="int8")
    for layer, _ in quantised_layers(quantised.model):
        weight: Any = layer.weight
        assert weight.qdata.element_size() == 1


def test_what_cannot_be_asked_for(tiny_pair: TinyPair) -> None:
    with pytest.raises(UsageError, match="use int8 or int4"):
        VisionLanguageModel.from_folder(tiny_pair.target, quantize="int2")
    with pytest.raises(UsageError, match="--device cuda"):
        VisionLanguageModel.from_folder(tiny_pair.target, device="auto", quantize="int8")
    with pytest.raises(UsageError, match="bfloat16"):
        check_kind("int4", "cuda", "float16")


@pytest.mark.skipif(TORCHAO, reason="torchao is installed")
def test_without_torchao(tiny_pair: TinyPair) -> None:
    with pytest.raises(PrerequisiteError, match=r"pip install 'aiflow-cli\[quantize\]'"):
        VisionLanguageModel.from_folder(tiny_pair.target, quantize="int8")


@pytest.mark.gpu
@needs_torchao
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_on_a_gpu(kind: str, tiny_pair: TinyPair) -> None:
    target = VisionLanguageModel.from_folder(tiny_pair.target, "cuda", "bfloat16", kind)
    assert len(greedy(target)) == NEW_TOKENS
