"""Run lengths tell without running what the sessions do, round by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.run_lengths import acceptance_by_position, run_lengths, split_into_rounds
from aiflow_cli.world.record import Round
from tests.decoding.models import Behaviour, greedy
from tests.decoding.strategies import behaviours, gammas
from tests.decoding.world import World, respond

MANY = 70


@dataclass(frozen=True)
class Ran:
    """A response that was run, and its teacher-forced matches: whether the draft says token i, given the target's text
    before it.
    """

    matches: list[bool]
    rounds: Sequence[Round]
    ended: bool


def ran(behaviour: Behaviour, gamma: int, max_new_tokens: int = MANY) -> Ran:
    text = greedy(behaviour.target, behaviour.stop_ids, max_new_tokens)
    matches = [behaviour.draft(tuple(text[:i])) == text[i] for i in range(1, len(text))]
    world = World(behaviour)
    respond(world, Method.SPECULATIVE, gamma, max_new_tokens)
    return Ran(matches, world.trial().rounds, text[-1] in behaviour.stop_ids)


def counted(rounds: Sequence[Round], gamma: int) -> list[float | None]:
    """Conditional acceptance, counted over rounds: a draft is judged if all before it were accepted."""
    shares: list[float | None] = []
    for k in range(gamma):
        judged = [known.accepted > k for known in rounds if known.accepted >= k and known.drafted > k]
        shares.append(sum(judged) / len(judged) if judged else None)
    return shares


@given(st.lists(st.booleans(), max_size=60))
def test_run_lengths_count_matches_in_a_row(matches: list[bool]) -> None:
    runs = run_lengths(matches)
    assert len(runs) == len(matches)
    for i, run in enumerate(runs):
        assert all(matches[i : i + run])
        assert i + run == len(matches) or not matches[i + run]


@settings(max_examples=300)
@given(behaviours(), gammas, st.integers(1, MANY))
def test_rounds_are_those_that_the_sessions_make(behaviour: Behaviour, gamma: int, max_new_tokens: int) -> None:
    response = ran(behaviour, gamma, max_new_tokens)
    assert split_into_rounds(response.matches, gamma) == [known.delivered for known in response.rounds]


@settings(max_examples=200)
@given(behaviours(), gammas)
def test_conditional_acceptance_is_that_of_the_sessions(behaviour: Behaviour, gamma: int) -> None:
    """Of a text that ended: at a maximum length the sessions leave the last token, which would be drafted otherwise, to
    the target.
    """
    response = ran(behaviour, gamma)
    if response.ended and len(response.matches) + 1 < MANY:
        assert acceptance_by_position([response.matches], gamma) == counted(response.rounds, gamma)


@given(st.lists(st.lists(st.booleans(), max_size=30), max_size=6), gammas)
def test_tokens_are_neither_lost_nor_made(texts: list[list[bool]], gamma: int) -> None:
    for matches in texts:
        delivered = split_into_rounds(matches, gamma)
        assert sum(delivered) == len(matches)
        assert all(1 <= n <= gamma + 1 for n in delivered)
    shares = acceptance_by_position(texts, gamma)
    assert len(shares) == gamma
    assert all(share is None or 0 <= share <= 1 for share in shares)


def test_several_texts_are_counted_together() -> None:
    assert acceptance_by_position([[True, False], [False]], 2) == [0.5, 0.0]
    assert acceptance_by_position([], 2) == [None, None]
    assert split_into_rounds([True, True, True], 2) == [3]
    assert split_into_rounds([True, True, True, True], 2) == [3, 1]
    assert split_into_rounds([False, True, True], 8) == [1, 2]
