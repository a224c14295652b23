"""What every decoder promises, held against both: prefill, extend, rollback; and that the reference crops its cache."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_cli.models.decoder import Decoder
from aiflow_cli.models.lean import LeanDecoder, LeanWeights
from aiflow_cli.models.prompt import Prompt
from aiflow_cli.models.reference import ReferenceDecoder
from tests.models.decoders import (
    EXACT,
    PROMPTS,
    ROOM,
    SHAPES,
    Shape,
    Step,
    error,
    fresh_logits,
    model,
    reference,
    walk,
    walks,
)

SHAPE = SHAPES[1]


def lean() -> Decoder:
    return LeanDecoder(model(SHAPE), LeanWeights(model(SHAPE)), ROOM)


def by_transformers() -> Decoder:
    return reference(SHAPE)


both = pytest.mark.parametrize("make", [lean, by_transformers])


@both
@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_one_by_one_and_at_once_choose_the_same(make: Callable[[], Decoder], prompt: Prompt) -> None:
    decoder = make()
    output = [decoder.prefill(prompt)]
    while len(output) < 12:
        output += decoder.extend(output[-1:])
    decoder.rollback(decoder.prompt_length)
    assert decoder.extend(output) == [*output[1:], decoder.last_logits[-1].argmax().item()]


@both
def test_rejected_tokens_leave_no_trace(make: Callable[[], Decoder]) -> None:
    prompt = PROMPTS["image"]
    decoder = make()
    decoder.prefill(prompt)
    decoder.extend([4, 5, 6, 7, 8])
    decoder.rollback(decoder.prompt_length + 2)
    decoder.extend([9])
    assert error(decoder.last_logits, fresh_logits(SHAPE, prompt, [4, 5, 9])[-1:]) < EXACT


@both
def test_rollback_to_where_it_is_changes_nothing(make: Callable[[], Decoder]) -> None:
    decoder = make()
    decoder.prefill(PROMPTS["text"])
    decoder.extend([4, 5])
    decoder.rollback(decoder.length)
    assert decoder.length == len(PROMPTS["text"]) + 2
    decoder.extend([6])
    assert error(decoder.last_logits, fresh_logits(SHAPE, PROMPTS["text"], [4, 5, 6])[-1:]) < EXACT


@both
def test_rollback_into_the_prompt_or_beyond_the_end_is_refused(make: Callable[[], Decoder]) -> None:
    decoder = make()
    decoder.prefill(PROMPTS["text"])
    decoder.extend([4, 5])
    for length in (decoder.prompt_length - 1, 0, -1, decoder.length + 1):
        with pytest.raises(ValueError, match=f"cannot roll back to {length}"):
            decoder.rollback(length)
    assert decoder.length == len(PROMPTS["text"]) + 2
    decoder.extend([6])
    assert error(decoder.last_logits, fresh_logits(SHAPE, PROMPTS["text"], [4, 5, 6])[-1:]) < EXACT


@both
def test_nothing_is_cached_before_a_prefill(make: Callable[[], Decoder]) -> None:
    decoder = make()
    assert decoder.prompt_length == decoder.length == 0


@settings(max_examples=20)
@given(shape=st.sampled_from(SHAPES), prompt=st.sampled_from(list(PROMPTS.values())), steps=walks)
def test_any_walk_of_the_reference_ends_where_a_fresh_forward_does(
    shape: Shape, prompt: Prompt, steps: list[Step]
) -> None:
    decoder = reference(shape)
    held = walk(decoder, prompt, steps)
    assert error(decoder.last_logits, fresh_logits(shape, prompt, held)[-len(steps[-1].tokens) :]) < EXACT


def test_the_reference_crops_its_cache() -> None:
    decoder = ReferenceDecoder(model(SHAPE))
    decoder.prefill(PROMPTS["image"])
    decoder.extend([4, 5, 6, 7])
    kept = decoder._cache.layers[0].keys[..., : decoder.prompt_length + 1, :].clone()
    decoder.rollback(decoder.prompt_length + 1)
    assert decoder._cache.get_seq_length() == decoder.length == decoder.prompt_length + 1
    assert (decoder._cache.layers[0].keys == kept).all()
