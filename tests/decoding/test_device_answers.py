"""Whatever a server must not say ends a device's session with an error that has a name; what is stale is dropped."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aiflow_cli.decoding.device import DeviceSession
from aiflow_cli.decoding.events import Drafted, Received
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.state import BadCounts, BadTokens, OutOfTurn
from aiflow_cli.errors import LinkError
from aiflow_cli.wire.messages import Message, Refused, Tokens, Verdict
from tests.decoding.device_states import (
    LIMIT,
    STRANGE,
    VOCAB,
    a_round,
    assert_refused,
    begun,
    streaming,
    tokens,
    verdict,
    waiting,
)

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
