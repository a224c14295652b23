"""What happens out of turn ends a device's session with a named error, as does any message that cannot be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_cli.decoding.actions import DraftTokens, Send
from aiflow_cli.decoding.device import DeviceSession
from aiflow_cli.decoding.events import Cancelled, Drafted, Event, Extended, Prefilled, Received, Started
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.state import BadTokens, OutOfTurn
from aiflow_cli.errors import LinkError, ProtocolError
from aiflow_cli.wire.messages import Cancel, Message, Refused, Round, Tokens, Verdict, Verification, pack_ids
from tests.decoding.device_states import (
    LIMIT,
    STRANGE,
    VOCAB,
    assert_closed,
    assert_refused,
    begun,
    session_of,
    streaming,
    tokens,
    waiting,
)
from tests.decoding.models import Behaviour
from tests.decoding.strategies import behaviours, gamma_of, gammas, lengths, methods, seeds
from tests.decoding.world import World


def test_a_late_message_after_the_end() -> None:
    session = begun(Method.SERVER_ONLY)
    session.handle(Received(tokens(0, done=True)))
    assert session.output.done
    assert_closed(session)


@pytest.mark.parametrize(
    "event", [Prefilled(1, 1), Drafted(1, (1,)), Cancelled(), Received(tokens(1)), Received(Refused("no"))]
)
def test_nothing_comes_before_the_beginning(event: Event) -> None:
    session = session_of(Method.SPECULATIVE)
    assert_refused(session, event, OutOfTurn, f"^{type(event).__name__} although the response has not begun$")


def test_a_response_begins_once() -> None:
    assert_refused(begun(Method.SERVER_ONLY), Started(), OutOfTurn, "^the response has begun already$")


def test_an_answer_to_other_work() -> None:
    assert_refused(streaming(Method.SPECULATIVE), Prefilled(2, 1), OutOfTurn, "Prefilled is no answer to DraftTokens")


@pytest.mark.parametrize("make", [lambda: begun(Method.SERVER_ONLY), waiting, lambda: begun(Method.CO_LOCATED)])
@pytest.mark.parametrize("event", [Prefilled(1, 1), Drafted(2, (1,)), Extended(9, (1,))])
def test_answers_that_no_one_waits_for_are_dropped(make: Callable[[], DeviceSession], event: Event) -> None:
    assert make().handle(event) == []


@pytest.mark.parametrize("make", [lambda: begun(Method.SERVER_ONLY), waiting])
def test_giving_up_tells_the_server(make: Callable[[], DeviceSession]) -> None:
    session = make()
    assert session.handle(Cancelled()) == [Send(Cancel(7))]
    assert_closed(session)


def test_giving_up_alone_tells_no_one() -> None:
    session = begun(Method.ON_DEVICE)
    assert session.handle(Cancelled()) == []
    assert_closed(session)


@pytest.mark.parametrize("committed", [(0,), (1,) * LIMIT, (1,) * (LIMIT + 1), (VOCAB,), (0, 1)])
def test_a_response_that_cannot_go_on(committed: tuple[int, ...]) -> None:
    with pytest.raises(BadTokens):
        session_of(Method.SERVER_ONLY, committed)


@pytest.mark.parametrize(("drafted", "words"), [((1,) * 5, "5 drafted tokens, of which 4 may be"), ((50,), "outside")])
def test_drafts_that_may_not_be(drafted: tuple[int, ...], words: str) -> None:
    assert_refused(streaming(Method.SPECULATIVE), Drafted(2, drafted), BadTokens, words)


ids = st.integers(0, 13)
numbers = st.integers(6, 8)
few = st.integers(0, 5)
costs = st.builds(Verification, few, st.just(0), st.just(0))
near_messages = st.one_of(
    st.builds(Tokens, numbers, st.integers(0, 9), st.lists(ids, max_size=5).map(pack_ids), st.booleans(), few, few),
    st.builds(
        Round, numbers, st.integers(0, 9), st.lists(ids, max_size=5).map(pack_ids), st.booleans(), few, few, few, costs
    ),
    st.builds(Verdict, numbers, few, st.integers(0, 9), few, ids | st.none(), st.booleans(), costs),
    st.sampled_from(STRANGE),
    st.builds(Refused, st.just("no")),
)
"""Messages that look like those that are due."""


@settings(max_examples=250)
@given(
    behaviours(), methods, gammas, lengths, seeds, st.integers(0, 40), st.lists(near_messages, min_size=1, max_size=9)
)
def test_any_messages_at_any_time(
    behaviour: Behaviour,
    method: Method,
    gamma: int,
    limit: int,
    seed: int,
    steps: int,
    injected: list[Message],
) -> None:
    """A message is good, or it ends the session; the output never breaks its limits, and the caches are never asked for
    what cannot be.
    """
    world = World(behaviour, seed)
    session = world.begin(method, gamma_of(method, gamma), limit)
    world.run(steps)
    for message in injected:
        try:
            actions = session.handle(Received(message))
        except (ProtocolError, LinkError):
            assert_closed(session)
            break
        drafting = [action for action in actions if isinstance(action, DraftTokens)]
        assert all(action.feed and action.count > 0 for action in drafting)
    output = session.output.tokens
    assert len(output) <= limit
    assert not any(token in behaviour.stop_ids for token in output[:-1])
    assert all(0 <= token < behaviour.vocab_size for token in output)
