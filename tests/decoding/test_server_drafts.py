"""Drafts that a device must not send end the server's session with an error that has a name; stale ones are dropped."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aiflow_cli.decoding.actions import Send
from aiflow_cli.decoding.events import Extended, Prefilled, Received
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.decoding.speculative import MOST_WAITING
from aiflow_cli.decoding.state import BadCounts, BadTokens, OutOfTurn
from aiflow_cli.wire.messages import Cancel, Draft, Message, Tokens, pack_ids
from tests.decoding.server_states import (
    VOCAB,
    assert_refused,
    draft,
    idle,
    prefilling,
    request,
    verdict,
    verifying,
    waiting,
)

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
