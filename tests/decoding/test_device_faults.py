"""Whatever a server must not do ends a device's session with an error that has a name, and the session stays closed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_cli.decoding.actions import DraftTokens
from aiflow_cli.decoding.device import DeviceSession, Task
from aiflow_cli.decoding.events import Drafted, Event, Extended, Prefilled, Received, Started
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.state import BadTokens, OutOfTurn, StaleMessage
from aiflow_cli.errors import LinkError
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
from tests.decoding.models import Behaviour
from tests.decoding.strategies import behaviours, gamma_of, gammas, lengths, methods, seeds
from tests.decoding.world import World
from tests.wire.strategies import SERVED

VOCAB, LIMIT, GAMMA = 50, 20, 4
ENDLESS = Behaviour(seed=5, vocab_size=VOCAB, stop_ids=frozenset({0}), stop_share=0.0, agreement=1.0)
FINGERPRINT = Fingerprint("x", "y", VOCAB)
STRANGE: list[Message] = [
    Hello(1, FINGERPRINT),
    Welcome(1, FINGERPRINT, SERVED),
    Request(7, "server-only", 0, 9, "", b""),
    Draft(0, 1, pack_ids([1])),
    Cancel(7),
]
"""What only a device sends, or no one in the middle of a response."""


def begun(method: Method) -> DeviceSession:
    """A session whose request is out and whose draft model, if it has one, is prefilled."""
    session = DeviceSession(Task(7, method, gamma_of(method, GAMMA), LIMIT, "", b""), frozenset({0}), VOCAB)
    session.handle(Started())
    if method is Method.SPECULATIVE:
        session.handle(Prefilled(1))
    return session


def tokens(*ids: int, done: bool = False, drafted: int = 0, accepted: int = 0, judged: int | None = None) -> Tokens:
    judged = min(accepted + 1, drafted) if judged is None else judged
    return Tokens(pack_ids(ids), done, 0, 0, drafted, accepted, judged=judged)


def streaming(method: Method) -> DeviceSession:
    """A session that has its first token."""
    session = begun(method)
    session.handle(Received(tokens(1)))
    return session


def waiting() -> DeviceSession:
    """A speculative session whose first draft, 2 3 4 5, is out."""
    session = streaming(Method.SPECULATIVE)
    session.handle(Drafted((2, 3, 4, 5)))
    return session


def verdict(
    accepted: int = 2, token: int | None = 9, done: bool = False, index: int = 0, judged: int | None = None
) -> Verdict:
    return Verdict(index, accepted, token, done, 0, 0, judged=min(accepted + 1, 4) if judged is None else judged)


def assert_closed(session: DeviceSession) -> None:
    kept = list(session.output.tokens)
    events: list[Event] = [Started(), Prefilled(1), Drafted((1,)), *map(Received, (tokens(1), verdict(), *STRANGE))]
    for event in events:
        with pytest.raises(OutOfTurn, match="the session has ended"):
            session.handle(event)
    assert session.output.tokens == kept


def assert_refused(session: DeviceSession, event: Event, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        session.handle(event)
    assert_closed(session)


BAD_VERDICTS: list[tuple[str, Verdict, type[Exception], str]] = [
    ("another round", verdict(index=1), StaleMessage, "answers round 1, the current one is 0"),
    ("more accepted than drafted", verdict(5), BadTokens, "accepts 5 of 4 drafts"),
    ("more accepted than judged", verdict(2, judged=1), BadTokens, "accepts 2 of 4 drafts, of which it judged 1"),
    ("judged behind a rejection", verdict(2, judged=4), BadTokens, "accepts 2 of 4 drafts, of which it judged 4"),
    ("more judged than drafted", verdict(4, judged=5), BadTokens, "accepts 4 of 4 drafts, of which it judged 5"),
    ("a token outside the vocabulary", verdict(token=VOCAB), BadTokens, "outside the vocabulary of 50"),
    ("done too early", verdict(done=True), BadTokens, "says that the output is done"),
    ("an end without done", verdict(token=0), BadTokens, "says that the output is not done"),
    ("neither token nor drafts", verdict(0, None), BadTokens, "0 tokens where"),
    ("accepted drafts alone", verdict(2, None), BadTokens, "without a token of its own"),
    ("all drafts alone, and done", verdict(4, None, done=True), BadTokens, "without a token of its own"),
]


@pytest.mark.parametrize(("what", "message", "error", "words"), BAD_VERDICTS, ids=[bad[0] for bad in BAD_VERDICTS])
def test_bad_verdicts(what: str, message: Verdict, error: type[Exception], words: str) -> None:
    assert_refused(waiting(), Received(message), error, words)


def test_the_verdict_that_they_are_variations_of_is_good() -> None:
    session = waiting()
    session.handle(Received(verdict()))
    assert session.output.tokens == [1, 2, 3, 9]


def test_a_token_after_an_accepted_end() -> None:
    session = streaming(Method.SPECULATIVE)
    session.handle(Drafted((2, 0)))
    assert_refused(session, Received(verdict(2, 9, done=True, judged=2)), BadTokens, "some after its end")


def test_a_verdict_twice() -> None:
    session = waiting()
    session.handle(Received(verdict()))
    assert_refused(session, Received(verdict()), OutOfTurn, "no draft is out")


def test_the_verdict_of_the_round_before() -> None:
    session = waiting()
    session.handle(Received(verdict()))
    session.handle(Drafted((2, 3)))
    assert_refused(session, Received(verdict()), StaleMessage, "answers round 0, the current one is 1")


@pytest.mark.parametrize("make", [lambda: begun(Method.SPECULATIVE), lambda: streaming(Method.SPECULATIVE)])
def test_a_verdict_before_the_draft(make: Callable[[], DeviceSession]) -> None:
    assert_refused(make(), Received(verdict()), OutOfTurn, "no draft is out")


@pytest.mark.parametrize("method", [Method.SERVER_ONLY, Method.CO_LOCATED, Method.ON_DEVICE])
def test_a_verdict_for_a_method_without_drafts(method: Method) -> None:
    assert_refused(begun(method), Received(verdict()), OutOfTurn, "no draft is out")


BAD_TOKENS: list[tuple[str, Tokens, str]] = [
    ("none", tokens(), "0 tokens where"),
    ("outside the vocabulary", tokens(3, VOCAB), "token id 50 is outside"),
    ("too many", tokens(*[3] * LIMIT), "20 tokens where the output may have 19 more"),
    ("after the end", tokens(0, 3, done=True), "some after its end"),
    ("done too early", tokens(3, done=True), "the output is done"),
    ("an end without done", tokens(0), "the output is not done"),
    ("cut ids", Tokens(b"\x00\x00\x01\x02", False, 0, 0), "no whole number of 3-byte ids"),
]


@pytest.mark.parametrize(("what", "message", "words"), BAD_TOKENS, ids=[bad[0] for bad in BAD_TOKENS])
def test_bad_tokens(what: str, message: Tokens, words: str) -> None:
    assert_refused(streaming(Method.SERVER_ONLY), Received(message), BadTokens, words)


@pytest.mark.parametrize(
    ("ids", "drafted", "accepted"), [([3], 4, 5), ([3, 4, 5], 4, 1), ([3, 4], 4, 3), ([3, 4, 5], 1, 2), ([3], 0, 1)]
)
def test_counts_of_a_co_located_round_that_do_not_fit(ids: list[int], drafted: int, accepted: int) -> None:
    message = tokens(*ids, drafted=drafted, accepted=accepted)
    assert_refused(streaming(Method.CO_LOCATED), Received(message), BadTokens, "the counts do not fit")


@pytest.mark.parametrize("judged", [0, 3, 4])
def test_drafts_judged_in_a_co_located_round_that_do_not_fit(judged: int) -> None:
    message = tokens(3, 4, drafted=4, accepted=1, judged=judged)
    assert_refused(streaming(Method.CO_LOCATED), Received(message), BadTokens, f"of which it judged {judged}")


def test_tokens_while_a_verdict_is_due() -> None:
    assert_refused(waiting(), Received(tokens(2)), OutOfTurn, "tokens that were not asked for")


def test_tokens_for_a_device_that_works_alone() -> None:
    assert_refused(begun(Method.ON_DEVICE), Received(tokens(2)), OutOfTurn, "tokens that were not asked for")


@pytest.mark.parametrize("message", STRANGE, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("method", list(Method))
def test_messages_of_another_kind(method: Method, message: Message) -> None:
    words = f"sent {type(message).__name__}, which no device waits for"
    assert_refused(begun(method), Received(message), OutOfTurn, words)


@pytest.mark.parametrize("make", [lambda: begun(Method.SERVER_ONLY), waiting, lambda: streaming(Method.CO_LOCATED)])
def test_a_server_that_gives_up_is_a_fault_of_the_link(make: Callable[[], DeviceSession]) -> None:
    assert_refused(make(), Received(Refused("the disk burns")), LinkError, "the server gave up: the disk burns")


def test_a_late_message_after_the_end() -> None:
    session = begun(Method.SERVER_ONLY)
    session.handle(Received(tokens(0, done=True)))
    assert session.finished
    assert_closed(session)


@pytest.mark.parametrize("event", [Prefilled(1), Drafted((1,)), Received(tokens(1)), Received(Refused("no"))])
def test_nothing_comes_before_the_beginning(event: Event) -> None:
    session = DeviceSession(Task(7, Method.SPECULATIVE, GAMMA, LIMIT, "", b""), frozenset(), VOCAB)
    assert_refused(session, event, OutOfTurn, "the response has not begun")


def test_a_response_begins_once() -> None:
    assert_refused(begun(Method.SERVER_ONLY), Started(), OutOfTurn, "has begun already")


@pytest.mark.parametrize(
    ("make", "event", "words"),
    [
        (lambda: streaming(Method.SPECULATIVE), Prefilled(1), "prefilled although no one asked"),
        (lambda: begun(Method.SERVER_ONLY), Prefilled(1), "prefilled although no one asked"),
        (waiting, Drafted((1,)), "drafted although no one asked"),
        (lambda: begun(Method.CO_LOCATED), Drafted((1,)), "drafted although no one asked"),
        (waiting, Extended((1,)), "Extended is no event of a device"),
    ],
)
def test_work_that_no_one_asked_for(make: Callable[[], DeviceSession], event: Event, words: str) -> None:
    assert_refused(make(), event, OutOfTurn, words)


@pytest.mark.parametrize(("drafted", "words"), [((1,) * 5, "5 drafted tokens, of which 4 may be"), ((50,), "outside")])
def test_drafts_that_may_not_be(drafted: tuple[int, ...], words: str) -> None:
    assert_refused(streaming(Method.SPECULATIVE), Drafted(drafted), BadTokens, words)


ids = st.integers(0, 13)
near_messages = st.one_of(
    st.builds(
        Tokens,
        st.lists(ids, max_size=5).map(pack_ids),
        st.booleans(),
        st.just(0),
        st.just(0),
        st.integers(0, 4),
        st.integers(0, 4),
        judged=st.integers(0, 4),
    ),
    st.builds(
        Verdict,
        st.integers(0, 6),
        st.integers(0, 5),
        ids | st.none(),
        st.booleans(),
        st.just(0),
        st.just(0),
        judged=st.integers(0, 5),
    ),
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
    """A message is good, or it ends the session; the output never breaks its limits, and the caches are never asked for what cannot be."""
    world = World(behaviour, seed)
    session = world.begin(method, gamma_of(method, gamma), limit)
    world.run(steps)
    for message in injected:
        try:
            actions = session.handle(Received(message))
        except (BadTokens, OutOfTurn, StaleMessage, LinkError):
            assert_closed(session)
            break
        drafting = [action for action in actions if isinstance(action, DraftTokens)]
        assert all(action.feed and action.count > 0 for action in drafting)
    output = session.output.tokens
    assert len(output) <= limit
    assert not any(token in behaviour.stop_ids for token in output[:-1])
    assert all(0 <= token < behaviour.vocab_size for token in output)
