"""Whatever a server must not do ends a device's session with an error that has a name, and the session stays closed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_cli.decoding.actions import DraftTokens, Send
from aiflow_cli.decoding.device import DeviceSession, Task
from aiflow_cli.decoding.events import Cancelled, Drafted, Event, Extended, Prefilled, Received, Started
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.state import BadCounts, BadTokens, OutOfTurn
from aiflow_cli.errors import LinkError, ProtocolError
from aiflow_cli.wire.messages import (
    Cancel,
    Draft,
    Fingerprint,
    Hello,
    Message,
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
from tests.decoding.world import PICTURE, World
from tests.wire.strategies import SERVED

VOCAB, LIMIT, GAMMA = 50, 20, 4
ENDLESS = Behaviour(seed=5, vocab_size=VOCAB, stop_ids=frozenset({0}), stop_share=0.0, agreement=1.0)
FINGERPRINT = Fingerprint("x", "y", VOCAB)
STRANGE: list[Message] = [
    Hello(1, FINGERPRINT),
    Welcome(1, FINGERPRINT, SERVED),
    Request(7, "server-only", 0, 9, "", PICTURE),
    Draft(7, 0, 1, pack_ids([1])),
    Cancel(7),
]
"""What only a device sends, or no one in the middle of a response."""


def session_of(method: Method, committed: tuple[int, ...] = ()) -> DeviceSession:
    task = Task(7, method, gamma_of(method, GAMMA), LIMIT, "", PICTURE, 0.0, committed)
    return DeviceSession(task, frozenset({0}), VOCAB)


def begun(method: Method) -> DeviceSession:
    """A session whose request is out and whose draft model, if it has one, is prefilled (ticket 1)."""
    session = session_of(method)
    session.handle(Started())
    if method is Method.SPECULATIVE:
        session.handle(Prefilled(1, 1))
    return session


def tokens(*ids: int, base: int = 0, done: bool = False, number: int = 7) -> Tokens:
    return Tokens(number, base, pack_ids(ids), done, 0, 0)


def a_round(*ids: int, drafted: int = 0, accepted: int = 0, judged: int | None = None, base: int = 1) -> Round:
    judged = min(accepted + 1, drafted) if judged is None else judged
    return Round(7, base, pack_ids(ids), False, drafted, accepted, 0, Verification(judged, 0, 0))


def streaming(method: Method) -> DeviceSession:
    """A session that has its first token, 1."""
    session = begun(method)
    session.handle(Received(tokens(1)))
    return session


def waiting() -> DeviceSession:
    """A speculative session whose first draft, 2 3 4 5 (ticket 2), is out."""
    session = streaming(Method.SPECULATIVE)
    session.handle(Drafted(2, (2, 3, 4, 5)))
    return session


def verdict(
    node: int = 2,
    token: int | None = 9,
    done: bool = False,
    judged: int | None = None,
    epoch: int = 0,
    base: int = 1,
    number: int = 7,
) -> Verdict:
    cost = Verification(min(node + 1, 4) if judged is None else judged, 0, 0)
    return Verdict(number, epoch, base, node, token, done, cost)


def assert_closed(session: DeviceSession) -> None:
    kept = list(session.output.tokens)
    heard = map(Received, (tokens(1), verdict(), *STRANGE))
    events: list[Event] = [Started(), Prefilled(1, 1), Drafted(2, (1,)), Cancelled(), *heard]
    for event in events:
        with pytest.raises(OutOfTurn, match=r"^the session has ended: nothing more is expected$"):
            session.handle(event)
    assert session.output.tokens == kept


def assert_refused(session: DeviceSession, event: Event, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        session.handle(event)
    assert_closed(session)


DONE = "^the server says that the output is done, by its tokens it is not$"
NOT_DONE = "^the server says that the output is not done, by its tokens it is$"
NO_TOKEN = "^the server ends a round without a token of its own, and without an accepted end$"
BAD_VERDICTS: list[tuple[str, Verdict, type[Exception], str]] = [
    ("an epoch to come", verdict(epoch=1), OutOfTurn, "of epoch 1 after 1 tokens: none is out"),
    ("tokens to come", verdict(base=2), OutOfTurn, "of epoch 0 after 2 tokens: none is out"),
    ("more accepted than drafted", verdict(5), BadCounts, "accepts node 5 of a draft of 4"),
    ("more accepted than judged", verdict(2, judged=1), BadCounts, "accepts 2 of 4 drafts, judged 1"),
    ("judged behind a rejection", verdict(2, judged=4), BadCounts, "accepts 2 of 4 drafts, judged 4"),
    ("more judged than drafted", verdict(4, judged=5), BadCounts, "accepts 4 of 4 drafts, judged 5"),
    ("a token outside the vocabulary", verdict(token=VOCAB), BadTokens, "outside the vocabulary of 50"),
    ("done too early", verdict(done=True), BadTokens, DONE),
    ("an end without done", verdict(token=0), BadTokens, NOT_DONE),
    ("neither token nor drafts", verdict(0, None), BadTokens, NO_TOKEN),
    ("accepted drafts alone", verdict(2, None), BadTokens, NO_TOKEN),
    ("all drafts alone, and done", verdict(4, None, done=True, judged=4), BadTokens, NO_TOKEN),
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
    session.handle(Drafted(2, (2, 0)))
    assert_refused(session, Received(verdict(2, 9, done=True, judged=2)), BadTokens, ", or some after its end$")


STALE: list[tuple[str, Message]] = [
    ("the verdict again", verdict()),
    ("the first token again", tokens(1)),
    ("tokens of a request of before", tokens(*[VOCAB] * 30, number=6)),
    ("a verdict of a request of before", verdict(base=4, number=6)),
]


@pytest.mark.parametrize(("what", "message"), STALE, ids=[stale[0] for stale in STALE])
@pytest.mark.parametrize("drafted", [False, True])
def test_what_is_stale_is_dropped(what: str, message: Message, drafted: bool) -> None:
    session = waiting()
    session.handle(Received(verdict()))
    if drafted:
        session.handle(Drafted(3, (2, 3)))
    assert session.handle(Received(message)) == []
    assert session.output.tokens == [1, 2, 3, 9]


@pytest.mark.parametrize("make", [lambda: begun(Method.SPECULATIVE), lambda: streaming(Method.SPECULATIVE)])
def test_a_verdict_before_the_draft(make: Callable[[], DeviceSession]) -> None:
    assert_refused(make(), Received(verdict()), OutOfTurn, "none is out")


@pytest.mark.parametrize("method", [Method.SERVER_ONLY, Method.CO_LOCATED])
def test_a_verdict_for_a_method_without_drafts(method: Method) -> None:
    assert_refused(
        begun(method), Received(verdict()), OutOfTurn, f"Verdict, which no device waits for in {method.value}"
    )


def test_an_answer_to_a_request_that_was_never_made() -> None:
    assert_refused(
        begun(Method.SERVER_ONLY), Received(tokens(1, number=8)), OutOfTurn, "request 8, which was never made"
    )


def test_tokens_behind_a_gap() -> None:
    message = tokens(1, base=2)
    assert_refused(streaming(Method.SERVER_ONLY), Received(message), OutOfTurn, "follows 2 tokens, 1 are here")


BAD_TOKENS: list[tuple[str, Tokens, str]] = [
    ("none", tokens(base=1), "0 tokens where"),
    ("outside the vocabulary", tokens(3, VOCAB, base=1), "token id 50 is outside"),
    ("too many", tokens(*[3] * LIMIT, base=1), "20 tokens where the output may have 19 more"),
    ("after the end", tokens(0, 3, base=1, done=True), ", or some after its end$"),
    ("done too early", tokens(3, base=1, done=True), DONE),
    ("an end without done", tokens(0, base=1), NOT_DONE),
    ("cut ids", Tokens(7, 1, b"\x00\x00\x01\x02", False, 0, 0), "no whole number of 3-byte ids"),
]


@pytest.mark.parametrize(("what", "message", "words"), BAD_TOKENS, ids=[bad[0] for bad in BAD_TOKENS])
def test_bad_tokens(what: str, message: Tokens, words: str) -> None:
    assert_refused(streaming(Method.SERVER_ONLY), Received(message), BadTokens, words)


@pytest.mark.parametrize(
    ("ids", "drafted", "accepted"), [([3], 4, 5), ([3, 4, 5], 4, 1), ([3, 4], 4, 3), ([3, 4, 5], 1, 2), ([3], 0, 1)]
)
def test_counts_of_a_co_located_round_that_do_not_fit(ids: list[int], drafted: int, accepted: int) -> None:
    message = a_round(*ids, drafted=drafted, accepted=accepted)
    assert_refused(streaming(Method.CO_LOCATED), Received(message), BadCounts, "the counts do not fit")


@pytest.mark.parametrize("judged", [0, 3, 4])
def test_drafts_judged_in_a_co_located_round_that_do_not_fit(judged: int) -> None:
    message = a_round(3, 4, drafted=4, accepted=1, judged=judged)
    assert_refused(streaming(Method.CO_LOCATED), Received(message), BadCounts, f"drafts, judged {judged}")


def test_tokens_while_a_verdict_is_due() -> None:
    assert_refused(
        waiting(), Received(tokens(2, base=1)), OutOfTurn, "^the server sent tokens that were not asked for$"
    )


@pytest.mark.parametrize("message", [tokens(2), verdict()])
def test_answers_for_a_device_that_works_alone(message: Message) -> None:
    words = f"^a server sent {type(message).__name__}, though this device works alone$"
    assert_refused(begun(Method.ON_DEVICE), Received(message), OutOfTurn, words)


@pytest.mark.parametrize("message", STRANGE, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("method", list(Method))
def test_messages_of_another_kind(method: Method, message: Message) -> None:
    words = f"^the server sent {type(message).__name__}, which no device waits for$"
    assert_refused(begun(method), Received(message), OutOfTurn, words)


@pytest.mark.parametrize("make", [lambda: begun(Method.SERVER_ONLY), waiting, lambda: streaming(Method.CO_LOCATED)])
def test_a_server_that_gives_up_is_a_fault_of_the_link(make: Callable[[], DeviceSession]) -> None:
    assert_refused(make(), Received(Refused("the disk burns")), LinkError, "the server gave up: the disk burns")


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
