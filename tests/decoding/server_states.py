"""A server's session in each of its states, and how it closes."""

from __future__ import annotations

import pytest

from aiflow_cli.decoding.actions import Send
from aiflow_cli.decoding.events import Event, Extended, Prefilled, Received
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.decoding.state import OutOfTurn
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
