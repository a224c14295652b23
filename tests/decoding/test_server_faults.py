"""Whatever a device must not do ends the server's session with an error that has a name; what is cancelled leaves
nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_cli.decoding.actions import Send
from aiflow_cli.decoding.events import Drafted, Event, Extended, Prefilled, Received, Started
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.decoding.speculative import MOST_WAITING
from aiflow_cli.decoding.state import BadCounts, BadRequest, BadTokens, OutOfTurn
from aiflow_cli.errors import ProtocolError
from aiflow_cli.wire.messages import (
    Cancel,
    Draft,
    Fingerprint,
    Hello,
    Message,
    Picture,
    Refused,
    Request,
    Round,
    Tokens,
    Verdict,
    Verification,
    Welcome,
    pack_ids,
)
from tests.decoding.models import Behaviour
from tests.decoding.strategies import behaviours, gamma_of, gammas, lengths, methods, seeds
from tests.decoding.world import World
from tests.wire.strategies import SERVED

VOCAB, LIMIT, GAMMA = 50, 20, 4
FINGERPRINT = Fingerprint("x", "y", VOCAB)
STRANGE: list[Message] = [
    Hello(1, FINGERPRINT),
    Welcome(1, FINGERPRINT, SERVED),
    Tokens(7, 0, pack_ids([1]), False, 0, 0),
    Verdict(7, 0, 1, 0, 1, False, Verification(0, 0, 0)),
    Round(7, 1, pack_ids([1]), False, 0, 0, 0, Verification(0, 0, 0)),
    Refused("no"),
]
"""What only a server sends, or no one in the middle of a response."""


def request(
    method: str = "speculative", gamma: int = GAMMA, limit: int = LIMIT, number: int = 7, committed: bytes = b""
) -> Request:
    return Request(number, method, gamma, limit, "", Picture(b"image"), 0.0, committed)


def idle(can_draft: bool = True) -> ServerSession:
    return ServerSession(frozenset({0}), VOCAB, can_draft)


def prefilling() -> ServerSession:
    """A session whose first piece of work, ticket 1, is under way."""
    session = idle()
    session.handle(Received(request()))
    return session


def waiting() -> ServerSession:
    """A session that has sent the first token, 1, and waits for drafts."""
    session = prefilling()
    session.handle(Prefilled(1, 1))
    return session


def verifying() -> ServerSession:
    """A session that verifies the draft 2 3 as its work with ticket 2."""
    session = waiting()
    session.handle(Received(draft(2, 3)))
    return session


def draft(*ids: int, epoch: int = 0, base: int = 1, number: int = 7) -> Draft:
    return Draft(number, epoch, base, pack_ids(ids))


def verdict(node: int, token: int, judged: int, base: int = 1, epoch: int = 0, spent: tuple[int, int] = (0, 0)) -> Send:
    return Send(Verdict(7, epoch, base, node, token, False, Verification(judged, *spent)))


def assert_closed(session: ServerSession) -> None:
    known = (request(), Cancel(7), draft(1), *STRANGE)
    events: list[Event] = [Prefilled(1, 1), Extended(2, (1,)), *map(Received, known)]
    for event in events:
        with pytest.raises(OutOfTurn, match=r"^the session has ended: nothing more is expected$"):
            session.handle(event)


def assert_refused(session: ServerSession, event: Event, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        session.handle(event)
    assert_closed(session)


BAD_DRAFTS: list[tuple[str, Draft, type[Exception], str]] = [
    ("an epoch to come", draft(2, epoch=1), OutOfTurn, "drafts in epoch 1, the output is in epoch 0"),
    ("behind a gap", draft(2, base=2), OutOfTurn, "drafts after 2 tokens, there are 1"),
    ("too many", draft(*[2] * 5), BadTokens, "5 drafted tokens, of which 4 may be"),
    ("outside the vocabulary", draft(2, VOCAB), BadTokens, "token id 50 is outside the vocabulary of 50"),
    ("cut ids", Draft(7, 0, 1, b"\x00\x00"), BadTokens, "no whole number of 3-byte ids"),
    ("a tree", Draft(7, 0, 1, pack_ids([2, 3]), b"\x00\x00"), BadCounts, "drafts chains"),
    ("of no request", draft(2, number=8), OutOfTurn, "sent Draft for request 8, never made"),
]


@pytest.mark.parametrize(("what", "message", "error", "words"), BAD_DRAFTS, ids=[bad[0] for bad in BAD_DRAFTS])
def test_bad_drafts(what: str, message: Draft, error: type[Exception], words: str) -> None:
    assert_refused(waiting(), Received(message), error, words)


def test_the_draft_that_they_are_variations_of_is_good() -> None:
    session = waiting()
    session.handle(Received(draft(2, 3)))
    (answer,) = session.handle(Extended(2, (2, 9, 8), (), 5, 6))
    assert answer == verdict(1, 9, 2, spent=(6, 5))


def test_more_drafts_than_the_output_has_room_for() -> None:
    session = idle()
    session.handle(Received(request(limit=3)))
    session.handle(Prefilled(1, 1))
    assert_refused(session, Received(draft(2, 3)), BadTokens, "2 drafted tokens, of which 1 may be")


STALE: list[tuple[str, Message]] = [
    ("a draft of an epoch that has passed", draft(9, 9, 9, 9, 9, base=77)),
    ("a draft that is output already", draft(2, epoch=1, base=1)),
    ("an empty draft of before", draft(epoch=1, base=2)),
    ("a draft of a request of before", draft(1, number=6)),
    ("the request itself, again", request()),
    ("a request of before", request(number=5)),
    ("the cancellation of a request of before", Cancel(6)),
]


@pytest.mark.parametrize(("what", "message"), STALE, ids=[stale[0] for stale in STALE])
def test_what_is_stale_is_dropped(what: str, message: Message) -> None:
    session = verifying()
    session.handle(Extended(2, (2, 9, 8)))  # accepted 2, corrected to 9: epoch 1 after 1 2 9
    assert session.handle(Received(message)) == []
    session.handle(Received(draft(5, epoch=1, base=3)))
    assert session.handle(Extended(3, (5, 6))) == [verdict(1, 6, 1, base=3, epoch=1)]


def test_a_draft_may_come_before_the_first_token() -> None:
    """It is verified behind what of it has become output by then."""
    session = prefilling()
    assert session.handle(Received(draft(1, 2, 3, base=0))) == []
    first, extend = session.handle(Prefilled(1, 1))
    assert first == Send(Tokens(7, 0, pack_ids([1]), False, 0, 0))
    assert extend.tokens == (1, 2, 3)  # type: ignore[union-attr]
    assert session.handle(Extended(2, (2, 9, 9))) == [verdict(2, 9, 2, base=0)]


def test_a_second_draft_rides_behind_the_first() -> None:
    """Drafted on the guess that the first is accepted and 4 follows it: if so it is verified at once, without its first
    token.
    """
    session = verifying()
    assert session.handle(Received(draft(4, 5, base=3))) == []
    told, extend = session.handle(Extended(2, (2, 3, 4)))
    assert told == verdict(2, 4, 2)
    assert (extend.keep, extend.tokens) == (3, (4, 5))  # type: ignore[union-attr]
    assert session.handle(Extended(3, (5, 6))) == [verdict(2, 6, 1, base=3)]


@pytest.mark.parametrize("predictions", [(2, 9, 4), (2, 3, 9)], ids=["first rejected", "another token follows"])
def test_a_second_draft_on_a_wrong_guess_is_void(predictions: tuple[int, ...]) -> None:
    session = verifying()
    session.handle(Received(draft(4, 5, base=3)))
    (told,) = session.handle(Extended(2, predictions))
    assert isinstance(told, Send)
    assert session.handle(Received(draft(6, base=5))) == [], "still of the epoch that has passed"
    have = 1 + len(predictions[: predictions.index(9) + 1])
    assert session.handle(Received(draft(6, epoch=1, base=have)))


def test_more_drafts_than_can_wait() -> None:
    session = prefilling()
    for _ in range(MOST_WAITING):
        session.handle(Received(draft(1, base=0)))
    assert_refused(session, Received(draft(1, base=0)), BadCounts, f"more than {MOST_WAITING} drafts wait")


@pytest.mark.parametrize("make", [prefilling, waiting, verifying])
def test_one_request_at_a_time(make: Callable[[], ServerSession]) -> None:
    assert_refused(make(), Received(request(number=8)), OutOfTurn, "makes request 8 while 7 is served")


def test_a_draft_before_any_request() -> None:
    assert_refused(idle(), Received(draft(1)), OutOfTurn, "sent Draft for request 7, never made")


@pytest.mark.parametrize("method", ["server-only", "co-located"])
def test_drafts_for_a_method_in_which_the_device_drafts_nothing(method: str) -> None:
    session = idle()
    session.handle(Received(request(method)))
    session.handle(Prefilled(1, 1))
    assert_refused(session, Received(draft(2)), OutOfTurn, f"sent Draft, which no server waits for in {method}")


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
