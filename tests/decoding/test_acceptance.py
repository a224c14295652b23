"""The acceptance rule, against its definition."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.decoding.acceptance import Judgement, draft_length, judge

ids = st.integers(0, 3)


@dataclass(frozen=True)
class Case:
    """A verification: few ids, so that drafts agree often; a stop id at most once, as the last draft."""

    drafted: list[int]
    predictions: list[int]
    stop_ids: frozenset[int]
    left: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    drafted = draw(st.lists(ids, max_size=12))
    predictions = [draw(st.just(token) | ids) for token in drafted] + [draw(ids)]
    return Case(drafted, predictions, draw(st.frozensets(ids, max_size=2)), len(drafted) + draw(st.integers(1, 3)))


def committed(case: Case) -> list[int]:
    """What the target alone would add, token by token, as far as the drafts let it see."""
    text: list[int] = []
    for position, prediction in enumerate(case.predictions):
        text.append(prediction)
        if prediction in case.stop_ids or len(text) == case.left:
            break
        if position == len(case.drafted) or case.drafted[position] != prediction:
            break
    return text


@given(cases())
def test_a_round_adds_what_the_target_alone_would(case: Case) -> None:
    judgement = judge(case.drafted, case.predictions, case.stop_ids, case.left)
    delivered = judgement.delivered(case.drafted)
    assert list(delivered) == committed(case)
    assert judgement.done == (delivered[-1] in case.stop_ids or len(delivered) == case.left)
    assert case.drafted[: judgement.accepted] == case.predictions[: judgement.accepted]


@given(cases())
def test_acceptance_ends_at_the_first_difference_or_end(case: Case) -> None:
    accepted = judge(case.drafted, case.predictions, case.stop_ids, case.left).accepted
    ended = accepted > 0 and case.drafted[accepted - 1] in case.stop_ids
    assert ended or accepted == len(case.drafted) or case.drafted[accepted] != case.predictions[accepted]
    assert not any(token in case.stop_ids for token in case.drafted[: max(0, accepted - 1)])


@pytest.mark.parametrize(
    ("drafted", "predictions", "left", "expected"),
    [
        ([5, 6], [5, 6, 7], 9, Judgement(2, 7, False)),
        ([5, 6], [5, 8, 7], 9, Judgement(1, 8, False)),
        ([5, 6], [4, 6, 7], 9, Judgement(0, 4, False)),
        ([], [5], 1, Judgement(0, 5, True)),
        ([], [5], 2, Judgement(0, 5, False)),
        ([5, 6], [5, 6, 7], 3, Judgement(2, 7, True)),
        ([5, 6], [5, 7, 0], 3, Judgement(1, 7, False)),
        ([5, 0], [5, 0, 7], 9, Judgement(2, None, True)),
        ([5, 6], [0, 6, 7], 9, Judgement(0, 0, True)),
        ([5, 6], [5, 6, 0], 9, Judgement(2, 0, True)),
    ],
)
def test_examples(drafted: list[int], predictions: list[int], left: int, expected: Judgement) -> None:
    assert judge(drafted, predictions, frozenset({0}), left) == expected


@pytest.mark.parametrize(("drafts", "predictions", "left"), [(2, 2, 9), (2, 4, 9), (0, 0, 1), (2, 3, 2), (0, 1, 0)])
def test_counts_that_cannot_be_are_a_bug(drafts: int, predictions: int, left: int) -> None:
    with pytest.raises(ValueError, match=f"{predictions} predictions for {drafts} drafts with room for {left}"):
        judge([1] * drafts, [1] * predictions, frozenset(), left)


@given(st.integers(1, 64), st.integers(1, 8192))
def test_a_round_never_has_more_drafts_than_the_output_has_room_for(gamma: int, left: int) -> None:
    length = draft_length(gamma, left)
    assert 0 <= length <= gamma
    assert length + 1 <= left
    assert length in (gamma, left - 1)
