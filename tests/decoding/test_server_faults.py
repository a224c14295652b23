"""Whatever a device must not do ends the server's session with a named error; what is cancelled leaves nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_cli.decoding.actions import Send
from aiflow_cli.decoding.events import Drafted, Event, Extended, Prefilled, Received, Started
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.decoding.state import BadRequest, BadTokens, OutOfTurn
from aiflow_cli.errors import ProtocolError
from aiflow_cli.wire.messages import Cancel, Draft, Message, Picture, Request, Round, Tokens, Verdict, pack_ids
from tests.decoding.models import Behaviour
from tests.decoding.server_states import (
    LIMIT,
    STRANGE,
    VOCAB,
    assert_closed,
    assert_refused,
    draft,
    idle,
    prefilling,
    request,
    verifying,
    waiting,
)
from tests.decoding.strategies import behaviours, gamma_of, gammas, lengths, methods, seeds
from tests.decoding.world import World


@pytest.mark.parametrize("message", STRANGE, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("make", [idle, waiting, verifying])
def test_messages_of_another_kind(make: Callable[[], ServerSession], message: Message) -> None:
    words = f"^the device sent {type(message).__name__}, which no server waits for$"
    assert_refused(make(), Received(message), OutOfTurn, words)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (request("telepathy"), "'telepathy' is not served: known are server-only, speculative, co-located"),
        (request("on-device"), "'on-device' is not served"),
        (request("speculative", gamma=0), "needs a draft length of at least 1"),
        (request("co-located", gamma=0), "needs a draft length of at least 1"),
    ],
)
def test_requests_that_cannot_be_served(message: Request, words: str) -> None:
    assert_refused(idle(), Received(message), BadRequest, words)


@pytest.mark.parametrize(
    ("committed", "words"),
    [
        (pack_ids([VOCAB]), "outside the vocabulary"),
        (b"\x00", "no whole number"),
        (pack_ids([0, 1]), ", or some after its end$"),
        (pack_ids([1, 0]), "behind which nothing may follow"),
        (pack_ids([1] * LIMIT), "behind which nothing may follow"),
        (pack_ids([1] * (LIMIT + 1)), "21 tokens where the output may have 20"),
    ],
)
def test_responses_that_cannot_go_on(committed: bytes, words: str) -> None:
    assert_refused(idle(), Received(request(committed=committed)), BadTokens, words)


def test_co_located_without_a_draft_model() -> None:
    words = "co-located needs the draft model on the server: start it with `aiflow serve --pair PAIR --with-draft`$"
    assert_refused(idle(can_draft=False), Received(request("co-located")), BadRequest, words)


@pytest.mark.parametrize(
    ("make", "event", "words"),
    [
        (prefilling, Extended(1, (1,)), "Extended is no answer to Prefill"),
        (verifying, Drafted(2, (1,)), "Drafted is no answer to Extend"),
        (idle, Started(), "Started is no event of a server"),
    ],
)
def test_answers_to_other_work(make: Callable[[], ServerSession], event: Event, words: str) -> None:
    assert_refused(make(), event, OutOfTurn, words)


@pytest.mark.parametrize("make", [idle, waiting, verifying])
@pytest.mark.parametrize("event", [Prefilled(1, 1), Extended(77, (1,)), Drafted(0, (1,))])
def test_answers_that_no_one_waits_for_are_dropped(make: Callable[[], ServerSession], event: Event) -> None:
    assert make().handle(event) == []


def test_a_target_of_another_vocabulary() -> None:
    assert_refused(prefilling(), Prefilled(1, VOCAB), BadTokens, "outside the vocabulary")


@pytest.mark.parametrize("make", [prefilling, waiting, verifying])
def test_cancel_makes_idle(make: Callable[[], ServerSession]) -> None:
    session = make()
    before = session.busy
    assert session.handle(Received(Cancel(7))) == []
    assert (before, session.busy) == (True, False)
    assert session.handle(Received(Cancel(7))) == [], "twice does no harm"


@pytest.mark.parametrize("event", [Prefilled(1, 1), Extended(2, (2, 3, 4)), Drafted(2, (1,)), Received(draft(2))])
def test_what_comes_late_for_a_cancelled_request_is_dropped(event: Event) -> None:
    session = verifying()
    session.handle(Received(Cancel(7)))
    assert session.handle(event) == []
    assert session.handle(Received(request(number=8)))
    assert session.handle(event) == []


def test_the_cancel_of_a_request_that_was_never_made() -> None:
    assert_refused(verifying(), Received(Cancel(8)), OutOfTurn, "sent Cancel for request 8, never made")


ids = st.integers(0, 13)
numbers = st.integers(6, 8)
near_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        Draft, numbers, st.integers(0, 3), st.integers(0, 8), st.lists(ids, max_size=5).map(pack_ids), st.none()
    ).map(Received),
    st.builds(
        Request,
        numbers,
        st.sampled_from([method.value for method in Method]),
        st.integers(0, 4),
        st.integers(1, 9),
        st.just(""),
        st.just(Picture(b"")),
    ).map(Received),
    st.sampled_from([*map(Cancel, (6, 7, 8)), *STRANGE]).map(Received),
    st.builds(Prefilled, st.integers(0, 9), ids),
    st.builds(Drafted, st.integers(0, 9), st.lists(ids, max_size=5).map(tuple)),
)
"""What looks like what is due."""


@settings(max_examples=250)
@given(behaviours(), methods, gammas, lengths, seeds, st.integers(0, 40), st.lists(near_events, min_size=1, max_size=9))
def test_any_events_at_any_time(
    behaviour: Behaviour, method: Method, gamma: int, limit: int, seed: int, steps: int, injected: list[Event]
) -> None:
    """An event is good, or it ends the session; whatever is answered fits the wire."""
    world = World(behaviour, seed)
    world.begin(method, gamma_of(method, gamma), limit)
    world.run(steps)
    session = world.server.session
    assert isinstance(session, ServerSession)
    for event in injected:
        try:
            actions = session.handle(event)
        except ProtocolError:
            assert_closed(session)
            return
        sent = [action.message for action in actions if isinstance(action, Send)]
        assert all(isinstance(message, Tokens | Round | Verdict) for message in sent)
