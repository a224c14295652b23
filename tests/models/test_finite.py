"""Numbers that are none end a response, with the part of the model named in which the first arises."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.decoder import Decoder, ReferenceDecoder
from aiflow_cli.models.finite import best_ids
from aiflow_cli.models.lean import LeanDecoder
from aiflow_cli.models.vlm import VisionLanguageModel
from tests.conftest import TinyPair, photograph

NAN, INFINITY = float("nan"), float("inf")
PLACES = {
    "vision_model.embeddings.patch_embedding.weight": "the embeddings of its vision tower",
    "vision_model.encoder.layers.0.mlp.fc1.weight": "layer 0 of its vision tower",
    "mlp1.3.bias": "its projector",
    "language_model.model.tok_embeddings.weight": "the embeddings of its language model",
    "language_model.model.layers.0.attention.wqkv.weight": "layer 0 of its language model",
    "language_model.model.layers.1.feed_forward.w2.weight": "layer 1 of its language model",
    "language_model.model.norm.weight": "the last norm of its language model",
    "language_model.output.weight": "its output layer",
}

FOLDED = ("the last norm of its language model", "its output layer")
"""What the lean decoder has as one matrix, which it refuses before it is used."""


def damaged(source: Path, folder: Path, name: str, change: Callable[[torch.Tensor], object]) -> Path:
    """A copy of a checkpoint with one tensor changed."""
    shutil.copytree(source, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors[name])
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def spoil(value: float) -> Callable[[torch.Tensor], None]:
    def change(tensor: torch.Tensor) -> None:
        tensor.flatten()[:: tensor[0].numel()] = value

    return change


def respond(model: VisionLanguageModel, decoder: Decoder | None = None) -> None:
    prompt = model.prepare(photograph(), "a red bus")
    (decoder or model.decoder(len(prompt) + 8)).prefill(prompt)


@pytest.mark.parametrize("value", [NAN, INFINITY])
@pytest.mark.parametrize("name", PLACES)
def test_the_part_is_named(name: str, value: float, tiny_pair: TinyPair, tmp_path: Path) -> None:
    """By both decoders. An output layer that makes NaN of everything is refused by the lean one before it is used."""
    folder = damaged(tiny_pair.draft, tmp_path / "hurt", name, spoil(value))
    place = PLACES[name]
    with pytest.raises(CheckpointError, match=r"fetch the checkpoint again$") as by_lean:
        respond(VisionLanguageModel.from_folder(folder))
    ours = (
        "the output layer of hurt holds NaN" if place in FOLDED else f"hurt computes NaN or infinity, first in {place}"
    )
    assert ours in str(by_lean.value)
    if place not in FOLDED:
        model = VisionLanguageModel.from_folder(folder)
        with pytest.raises(
            CheckpointError, match=f"hurt computes NaN or infinity, first in {place}: fetch"
        ) as by_reference:
            respond(model, ReferenceDecoder(model.model))
        assert str(by_reference.value) == str(by_lean.value)


@pytest.mark.parametrize("name", [name for name in PLACES if PLACES[name] in FOLDED])
def test_the_part_is_named_where_the_lean_decoder_is_not_used(name: str, tiny_pair: TinyPair, tmp_path: Path) -> None:
    folder = damaged(tiny_pair.draft, tmp_path / "hurt", name, spoil(NAN))
    with pytest.raises(CheckpointError, match=f"first in {PLACES[name]}: fetch"):
        respond(VisionLanguageModel.from_folder(folder, dtype="bfloat16"))


def test_an_overflow_in_float16_says_what_to_use_instead(tiny_pair: TinyPair, tmp_path: Path) -> None:
    folder = damaged(tiny_pair.draft, tmp_path / "large", "mlp1.3.weight", lambda tensor: tensor.mul_(3e4))
    with pytest.raises(CheckpointError, match="first in its projector, in numbers too large for float16: use --dtype"):
        respond(VisionLanguageModel.from_folder(folder, dtype="float16"))
    respond(VisionLanguageModel.from_folder(folder))


def test_an_overflow_in_float32_is_damage(tiny_pair: TinyPair, tmp_path: Path) -> None:
    folder = damaged(tiny_pair.draft, tmp_path / "large", "mlp1.3.weight", lambda tensor: tensor.fill_(3e38))
    with pytest.raises(CheckpointError, match="first in its projector: fetch the checkpoint again"):
        respond(VisionLanguageModel.from_folder(folder))


@pytest.mark.parametrize("kind", [LeanDecoder, ReferenceDecoder])
def test_a_token_that_is_hurt_is_found_when_it_comes(kind: type[Decoder], tiny_pair: TinyPair, tmp_path: Path) -> None:
    """After the prompt, by the first pass that holds it; after going back before it, all is well."""
    token = 20

    def change(tensor: torch.Tensor) -> None:
        tensor[token] = NAN

    name = "language_model.model.tok_embeddings.weight"
    model = VisionLanguageModel.from_folder(damaged(tiny_pair.draft, tmp_path / "hurt", name, change))
    prompt = model.prepare(photograph(), "a red bus")
    assert token not in prompt.input_ids
    decoder = model.decoder(128) if kind is LeanDecoder else ReferenceDecoder(model.model)
    decoder.prefill(prompt)
    for tokens in ([5, token], [token], [5, 6, token, 7]):
        decoder.extend([5, 6, 7])
        decoder.keep(decoder.prompt_length + 1)
        with pytest.raises(CheckpointError, match="first in the embeddings of its language model: fetch"):
            decoder.extend(tokens)
        decoder.keep(decoder.prompt_length)


def test_ties_go_to_the_first_as_argmax_has_it() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, -INFINITY], [2.0, 2.0, 2.0, 2.0], [-INFINITY, -1e30, -INFINITY, -INFINITY]])
    assert best_ids(logits) == logits.argmax(-1).tolist() == [1, 0, 1]
    for bad in (NAN, INFINITY):
        logits[1, 2] = bad
        assert best_ids(logits) is None
    assert best_ids(torch.full((1, 4), -INFINITY)) is None
