"""Whatever a device must not do ends the server's session with an error that has a name; what is cancelled leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_cli.decoding.actions import Send
from aiflow_cli.decoding.events import Drafted, Event, Extended, Prefilled, Received, Started
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.decoding.state import BadTokens, OutOfTurn, StaleMessage
from aiflow_cli.wire.messages import (
    Cancel,
    Draft,
    Fingerprint,
    Hello,
    Message,
    Refused,
    Request,
    Tokens,
    Verdict,
    Welcome,
    pack_ids,
)
from tests.decoding.models import Behaviour, greedy
from tests.decoding.strategies import behaviours, gamma_of, gammas, lengths, methods, seeds
from tests.decoding.world import World, respond
from tests.wire.strategies import SERVED

VOCAB, LIMIT, GAMMA = 50, 20, 4
FINGERPRINT = Fingerprint("x", "y", VOCAB)
STRANGE: list[Message] = [
    Hello(1, FINGERPRINT),
    Welcome(1, FINGERPRINT, SERVED),
    Tokens(pack_ids([1]), False, 0, 0),
    Verdict(0, 0, 1, False, 0, 0),
    Refused("no"),
]
"""What only a server sends, or no one in the middle of a response."""


def request(method: str = "speculative", gamma: int = GAMMA, limit: int = LIMIT) -> Request:
    return Request(7, method, gamma, limit, "", b"image")


def idle(can_draft: bool = True) -> ServerSession:
    return ServerSession(frozenset({0}), VOCAB, can_draft)


def prefilling() -> ServerSession:
    session = idle()
    session.handle(Received(request()))
    return session


def waiting() -> ServerSession:
    """A session that has sent the first token, 1, and waits for drafts."""
    session = prefilling()
    session.handle(Prefilled(1))
    return session


def verifying() -> ServerSession:
    session = waiting()
    session.handle(Received(draft(2, 3)))
    return session


def draft(*ids: int, index: int = 0, base: int = 1) -> Draft:
    return Draft(index, base, pack_ids(ids))


def assert_closed(session: ServerSession) -> None:
    events: list[Event] = [Prefilled(1), Extended((1,)), *map(Received, (request(), Cancel(7), draft(1), *STRANGE))]
    for event in events:
        with pytest.raises(OutOfTurn, match="the session has ended"):
            session.handle(event)


def assert_refused(session: ServerSession, event: Event, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        session.handle(event)
    assert_closed(session)


BAD_DRAFTS: list[tuple[str, Draft, type[Exception], str]] = [
    ("another round", draft(2, index=1), StaleMessage, "drafts round 1 after 1 tokens, the server is at round 0"),
    ("another length", draft(2, base=2), StaleMessage, "after 2 tokens, the server is at round 0 after 1"),
    ("too many", draft(*[2] * 5), BadTokens, "5 drafted tokens, of which 4 may be"),
    ("outside the vocabulary", draft(2, VOCAB), BadTokens, "token id 50 is outside the vocabulary of 50"),
    ("cut ids", Draft(0, 1, b"\x00\x00"), BadTokens, "no whole number of 3-byte ids"),
]


@pytest.mark.parametrize(("what", "message", "error", "words"), BAD_DRAFTS, ids=[bad[0] for bad in BAD_DRAFTS])
def test_bad_drafts(what: str, message: Draft, error: type[Exception], words: str) -> None:
    assert_refused(waiting(), Received(message), error, words)


def test_the_draft_that_they_are_variations_of_is_good() -> None:
    session = waiting()
    session.handle(Received(draft(2, 3)))
    (answer,) = session.handle(Extended((2, 9, 8), 5, 6))
    assert answer == Send(Verdict(0, 1, 9, False, 6, 5, judged=2))


def test_more_drafts_than_the_output_has_room_for() -> None:
    session = idle()
    session.handle(Received(request(limit=3)))
    session.handle(Prefilled(1))
    assert_refused(session, Received(draft(2, 3)), BadTokens, "2 drafted tokens, of which 1 may be")


def test_the_draft_of_the_round_before() -> None:
    session = verifying()
    session.handle(Extended((2, 9, 8)))
    assert_refused(session, Received(draft(2, 3)), StaleMessage, "the server is at round 1 after 3")


@pytest.mark.parametrize(
    ("make", "message", "words"),
    [
        (idle, draft(1), "sent Draft while Request is due"),
        (prefilling, draft(1), "sent Draft while PrefillTarget is due"),
        (verifying, draft(1), "sent Draft while Extended is due"),
        (prefilling, request(), "sent Request while PrefillTarget is due"),
        (waiting, request(), "sent Request while Draft is due"),
        (verifying, request(), "sent Request while Extended is due"),
    ],
)
def test_messages_out_of_turn(make: Callable[[], ServerSession], message: Message, words: str) -> None:
    assert_refused(make(), Received(message), OutOfTurn, words)


@pytest.mark.parametrize("method", ["server-only", "co-located"])
def test_drafts_for_a_method_in_which_the_device_drafts_nothing(method: str) -> None:
    session = idle()
    session.handle(Received(request(method)))
    session.handle(Prefilled(1))
    assert_refused(session, Received(draft(2)), OutOfTurn, "sent Draft while")


@pytest.mark.parametrize("message", STRANGE, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("make", [idle, waiting, verifying])
def test_messages_of_another_kind(make: Callable[[], ServerSession], message: Message) -> None:
    words = f"sent {type(message).__name__}, which no server waits for"
    assert_refused(make(), Received(message), OutOfTurn, words)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (request("telepathy"), "'telepathy' is not served: know server-only, speculative, co-located"),
        (request("on-device"), "'on-device' is not served"),
        (request("speculative", gamma=0), "needs a draft length of at least 1"),
        (request("co-located", gamma=0), "needs a draft length of at least 1"),
    ],
)
def test_requests_that_cannot_be_served(message: Request, words: str) -> None:
    assert_refused(idle(), Received(message), BadTokens, words)


def test_co_located_without_a_draft_model() -> None:
    assert_refused(idle(can_draft=False), Received(request("co-located")), BadTokens, "--with-draft")


@pytest.mark.parametrize(
    ("make", "event", "words"),
    [
        (prefilling, Extended((1,)), "Extended although no one asked"),
        (waiting, Prefilled(1), "Prefilled although no one asked"),
        (waiting, Drafted((1,)), "Drafted although no one asked"),
        (verifying, Drafted((1,)), "Drafted although no one asked"),
        (idle, Started(), "Started is no event of a server"),
    ],
)
def test_work_that_no_one_asked_for(make: Callable[[], ServerSession], event: Event, words: str) -> None:
    assert_refused(make(), event, OutOfTurn, words)


def test_a_target_of_another_vocabulary() -> None:
    assert_refused(prefilling(), Prefilled(VOCAB), BadTokens, "outside the vocabulary")


@pytest.mark.parametrize("make", [prefilling, waiting, verifying])
def test_cancel_makes_idle(make: Callable[[], ServerSession]) -> None:
    session = make()
    assert session.busy
    assert session.handle(Received(Cancel(7))) == []
    assert not session.busy


@pytest.mark.parametrize("event", [Prefilled(1), Extended((2, 3, 4)), Drafted((1,))])
def test_work_of_a_cancelled_request_is_dropped(event: Event) -> None:
    session = verifying()
    session.handle(Received(Cancel(7)))
    assert session.handle(event) == []
    assert session.handle(Received(request()))


def test_the_cancel_of_another_request_changes_nothing() -> None:
    session = verifying()
    assert session.handle(Received(Cancel(8))) == []
    assert session.busy
    assert session.handle(Extended((2, 3, 4))) == [Send(Verdict(0, 2, 4, False, 0, 0, judged=2))]
    assert idle().handle(Received(Cancel(7))) == []


def test_a_draft_for_a_cancelled_request_is_out_of_turn() -> None:
    session = waiting()
    session.handle(Received(Cancel(7)))
    assert_refused(session, Received(draft(2)), OutOfTurn, "sent Draft while Request is due")


@given(behaviours(), methods, gammas, lengths, seeds, st.integers(0, 60))
def test_after_a_cancel_the_next_response_is_as_good_as_the_first(
    behaviour: Behaviour, method: Method, gamma: int, limit: int, seed: int, steps: int
) -> None:
    world = World(behaviour, seed)
    world.begin(method, gamma_of(method, gamma), limit)
    world.run(steps)
    world.tell(world.server, Received(Cancel(7)))
    world.server.work.clear()
    world.server.inbox.clear()
    respond(world, Method.SPECULATIVE, gamma, limit)
    assert world.delivered == greedy(behaviour.target, behaviour.stop_ids, limit)


ids = st.integers(0, 13)
near_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Draft, st.integers(0, 4), st.integers(0, 8), st.lists(ids, max_size=5).map(pack_ids)).map(Received),
    st.builds(
        Request,
        st.just(7),
        st.sampled_from([method.value for method in Method]),
        st.integers(0, 4),
        st.integers(1, 9),
        st.just(""),
        st.just(b""),
    ).map(Received),
    st.sampled_from([Cancel(7), Cancel(8), *STRANGE]).map(Received),
    st.builds(Prefilled, ids),
    st.builds(Drafted, st.lists(ids, max_size=5).map(tuple)),
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
        except (BadTokens, OutOfTurn, StaleMessage):
            assert_closed(session)
            return
        sent = [action.message for action in actions if isinstance(action, Send)]
        assert all(isinstance(message, Tokens | Verdict) for message in sent)
