"""What every decoder promises, held against both: prefill, extend, keep; and that the reference crops its cache."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_cli.models.decoder import ReferenceDecoder
from aiflow_cli.models.lean import LeanDecoder, LeanWeights
from aiflow_cli.models.prompt import Prompt
from tests.models.decoders import (
    EXACT,
    PROMPTS,
    ROOM,
    SHAPES,
    Shape,
    Step,
    cached_rows,
    error,
    fresh_logits,
    model,
    reference,
    walk,
    walks,
)

SHAPE = SHAPES[1]
AnyDecoder = LeanDecoder | ReferenceDecoder


def lean() -> LeanDecoder:
    return LeanDecoder(model(SHAPE), LeanWeights(model(SHAPE)), ROOM)


def by_transformers() -> ReferenceDecoder:
    return reference(SHAPE)


both = pytest.mark.parametrize("make", [lean, by_transformers])


@both
@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_one_by_one_and_at_once_choose_the_same(make: Callable[[], AnyDecoder], prompt: Prompt) -> None:
    decoder = make()
    output = [decoder.prefill(prompt)]
    while len(output) < 12:
        output += decoder.extend(output[-1:])
    decoder.keep(decoder.prompt_length)
    assert decoder.extend(output) == [*output[1:], decoder.last_logits[-1].argmax().item()]


@both
def test_rejected_tokens_leave_no_trace(make: Callable[[], AnyDecoder]) -> None:
    prompt = PROMPTS["image"]
    decoder = make()
    decoder.prefill(prompt)
    decoder.extend([4, 5, 6, 7, 8])
    decoder.keep(decoder.prompt_length + 2)
    decoder.extend([9])
    assert error(decoder.last_logits, fresh_logits(SHAPE, prompt, [4, 5, 9])[-1:]) < EXACT


@both
def test_to_keep_all_changes_nothing(make: Callable[[], AnyDecoder]) -> None:
    decoder = make()
    decoder.prefill(PROMPTS["text"])
    decoder.extend([4, 5])
    decoder.keep(decoder.length)
    assert decoder.length == len(PROMPTS["text"]) + 2
    decoder.extend([6])
    assert error(decoder.last_logits, fresh_logits(SHAPE, PROMPTS["text"], [4, 5, 6])[-1:]) < EXACT


@both
def test_to_keep_less_than_the_prompt_or_more_than_there_is_is_refused(make: Callable[[], AnyDecoder]) -> None:
    decoder = make()
    decoder.prefill(PROMPTS["text"])
    decoder.extend([4, 5])
    for length in (decoder.prompt_length - 1, 0, -1, decoder.length + 1):
        with pytest.raises(ValueError, match=f"cannot keep {length} positions"):
            decoder.keep(length)
    assert decoder.length == len(PROMPTS["text"]) + 2
    decoder.extend([6])
    assert error(decoder.last_logits, fresh_logits(SHAPE, PROMPTS["text"], [4, 5, 6])[-1:]) < EXACT


@both
def test_nothing_is_cached_before_a_prefill(make: Callable[[], AnyDecoder]) -> None:
    decoder = make()
    assert decoder.prompt_length == decoder.length == 0


@both
@settings(max_examples=30)
@given(first=st.integers(0, 7), data=st.data())
def test_a_kept_path_moves_up_and_is_as_it_was_computed(
    make: Callable[[], AnyDecoder], first: int, data: st.DataObject
) -> None:
    path = sorted(data.draw(st.sets(st.integers(0, 6 - first))) if first < 7 else [])
    decoder, prompt = make(), PROMPTS["image"]
    decoder.prefill(prompt)
    decoder.extend(range(4, 11))
    before, base = cached_rows(decoder), decoder.prompt_length + first
    decoder.keep(base, path)
    assert decoder.length == base + len(path)
    assert torch.equal(cached_rows(decoder), before[[*range(base), *(base + offset for offset in path)]])
    assert decoder._ids[: decoder.length] == [*prompt.input_ids, *range(4, 4 + first), *(4 + first + k for k in path)]


@both
def test_what_is_kept_is_what_the_next_tokens_see(make: Callable[[], AnyDecoder]) -> None:
    prompt, decoder = PROMPTS["two tiles"], make()
    decoder.prefill(prompt)
    decoder.extend([4, 5, 6, 7])
    decoder.keep(decoder.prompt_length + 1, [0, 1])
    decoder.extend([8, 9])
    assert error(decoder.last_logits, fresh_logits(SHAPE, prompt, [4, 5, 6, 8, 9])[-2:]) < EXACT


@both
@pytest.mark.parametrize("path", [[1, 0], [1, 1], [-1], [-1, 0], [3], [0, 1, 2, 3]], ids=str)
def test_a_path_that_turns_or_leaves_what_is_cached_is_refused(make: Callable[[], AnyDecoder], path: list[int]) -> None:
    decoder = make()
    decoder.prefill(PROMPTS["text"])
    decoder.extend([4, 5, 6, 7])
    before = cached_rows(decoder)
    with pytest.raises(ValueError, match="offsets must increase"):
        decoder.keep(decoder.prompt_length + 1, path)
    assert torch.equal(cached_rows(decoder), before)


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
    decoder.keep(decoder.prompt_length + 1)
    assert decoder._cache.get_seq_length() == decoder.length == decoder.prompt_length + 1
    assert (decoder._cache.layers[0].keys == kept).all()
