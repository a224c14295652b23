"""The lean decoder against transformers' forward: the same logits to 1e-5, for every shape, image and way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_cli.models.decoder import ReferenceDecoder
from aiflow_cli.models.lean import PIECE_ROWS, LeanDecoder, LeanWeights
from aiflow_cli.models.prompt import Prompt
from aiflow_cli.models.vlm import VisionLanguageModel
from tests.conftest import TinyPair
from tests.models import makers
from tests.models.decoders import (
    EXACT,
    IMAGE_TOKEN,
    PROMPTS,
    ROOM,
    SHAPES,
    VOCABULARY,
    Shape,
    Step,
    error,
    fresh_logits,
    model,
    reference,
    text_prompt,
    walk,
    walks,
)


def lean(shape: Shape, room: int = ROOM) -> LeanDecoder:
    return LeanDecoder(model(shape), LeanWeights(model(shape)), room)


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_prefill_and_extend_give_the_reference_logits(shape: Shape, prompt: Prompt) -> None:
    ours, theirs = lean(shape), reference(shape)
    assert ours.prefill(prompt) == theirs.prefill(prompt)
    assert error(ours.last_logits, theirs.last_logits) < EXACT
    for count in range(1, 12):
        tokens = [(7 * i + count) % IMAGE_TOKEN for i in range(count)]
        assert ours.extend(tokens) == theirs.extend(tokens)
        assert error(ours.last_logits, theirs.last_logits) < EXACT
        assert ours.length == theirs.length
    assert float(theirs.last_logits.std()) > 0.1


@settings(max_examples=60)
@given(shape=st.sampled_from(SHAPES), prompt=st.sampled_from(list(PROMPTS.values())), steps=walks)
def test_any_walk_ends_where_a_fresh_forward_does(shape: Shape, prompt: Prompt, steps: list[Step]) -> None:
    decoder = lean(shape)
    held = walk(decoder, prompt, steps)
    expected = fresh_logits(shape, prompt, held)[-len(steps[-1].tokens) :]
    assert error(decoder.last_logits, expected) < EXACT
    assert decoder.length == decoder.prompt_length + len(held) == len(prompt) + len(held)
    decoder.keep(decoder.prompt_length)
    if held:
        assert decoder.extend(held) == fresh_logits(shape, prompt, held)[1:].argmax(-1).tolist()


def test_a_second_prefill_starts_anew() -> None:
    decoder, fresh = lean(SHAPES[0]), lean(SHAPES[0])
    walk(decoder, PROMPTS["image"], [Step(0, (1, 2, 3)), Step(2, (9,) * 7)])
    assert decoder.prefill(PROMPTS["text"]) == fresh.prefill(PROMPTS["text"])
    assert torch.equal(decoder.last_logits, fresh.last_logits)
    assert decoder.length == decoder.prompt_length == len(PROMPTS["text"])


def test_decoders_share_weights_and_nothing_else() -> None:
    weights = LeanWeights(model(SHAPES[1]))
    embedding = weights.embedding.clone()
    one, other = (LeanDecoder(model(SHAPES[1]), weights, ROOM) for _ in range(2))
    one.prefill(PROMPTS["text"])
    other.prefill(PROMPTS["image"])
    one.extend([4, 5, 6])
    expected = fresh_logits(SHAPES[1], PROMPTS["image"], [8])[1:]
    other.extend([8])
    assert error(other.last_logits, expected) < EXACT
    assert torch.equal(weights.embedding, embedding)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7])
def test_the_whole_room_can_be_used_and_no_more(rows: int) -> None:
    prompt = text_prompt(5)
    decoder = lean(SHAPES[0], room=5 + rows)
    decoder.prefill(prompt)
    tokens = list(range(10, 10 + rows))
    with pytest.raises(ValueError, match=rf"room for {5 + rows} positions, {6 + rows} are needed"):
        decoder.extend([*tokens, 1])
    assert decoder.length == 5
    decoder.extend(tokens)
    assert error(decoder.last_logits, fresh_logits(SHAPES[0], prompt, tokens)[1:]) < EXACT
    with pytest.raises(ValueError, match="room"):
        decoder.extend([1])


def test_a_prompt_beyond_the_room_is_refused() -> None:
    with pytest.raises(ValueError, match="room for 4 positions, 5 are needed"):
        lean(SHAPES[0], room=4).prefill(text_prompt(5))


@pytest.mark.parametrize("length", [PIECE_ROWS - 1, PIECE_ROWS, PIECE_ROWS + 1, 2 * PIECE_ROWS + 3, 300])
def test_a_long_prompt_is_taken_in_pieces_and_gives_the_same(length: int) -> None:
    for shape in SHAPES[:2]:
        ours, prompt = lean(shape, 2 * length + 20), text_prompt(length)
        assert ours.prefill(prompt) == fresh_logits(shape, prompt, []).argmax(-1).item()
        tokens = [(11 * i + 2) % IMAGE_TOKEN for i in range(length + 9)]  # and a pass that is as long
        for rows in (tokens, tokens[:5]):
            ours.keep(length)
            ours.extend(rows)
            assert error(ours.last_logits, fresh_logits(shape, prompt, rows)[1:]) < EXACT


def test_memory_grows_with_the_room_and_not_with_its_square() -> None:
    def numbers(room: int) -> int:
        held = vars(lean(SHAPES[0], room)).values()
        return sum(part.untyped_storage().nbytes() // part.itemsize for part in held if isinstance(part, torch.Tensor))

    assert numbers(4096) < 4.1 * numbers(1024)


def test_logits_are_rows_by_vocabulary() -> None:
    decoder = lean(SHAPES[0])
    decoder.prefill(PROMPTS["image"])
    assert decoder.last_logits.shape == (1, VOCABULARY)
    decoder.extend([1, 2, 3])
    assert decoder.last_logits.shape == (3, VOCABULARY)


def test_covers_llama_shaped_models_in_float32(tiny_pair: TinyPair) -> None:
    vlm = VisionLanguageModel.from_folder(tiny_pair.draft)
    assert LeanDecoder.covers(vlm.model)
    assert isinstance(vlm.decoder(ROOM), LeanDecoder)


@pytest.mark.parametrize("name", ["1B", "4B"])
def test_other_architectures_are_left_to_the_reference(name: str, tmp_path: Path) -> None:
    makers.member(name, tmp_path)
    vlm = VisionLanguageModel.from_folder(tmp_path)
    assert not LeanDecoder.covers(vlm.model)
    assert isinstance(vlm.decoder(ROOM), ReferenceDecoder)


def test_other_dtypes_are_left_to_the_reference(tiny_pair: TinyPair) -> None:
    vlm = VisionLanguageModel.from_folder(tiny_pair.draft, dtype="bfloat16")
    assert not LeanDecoder.covers(vlm.model)
    assert isinstance(vlm.decoder(ROOM), ReferenceDecoder)


@pytest.mark.parametrize(
    "changed",
    [
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_it_does_not_compute_it_does_not_cover(changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    source = model(SHAPES[0])
    assert LeanDecoder.covers(source)
    for name, value in changed.items():
        monkeypatch.setattr(source.config.get_text_config(), name, value)
    assert not LeanDecoder.covers(source)
