"""A device's session in each of its states, and how it closes."""

from __future__ import annotations

import pytest

from aiflow_cli.decoding.device import DeviceSession, Task
from aiflow_cli.decoding.events import Cancelled, Drafted, Event, Prefilled, Received, Started
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.state import OutOfTurn
from aiflow_cli.wire.messages import (
    Cancel,
    Draft,
    Fingerprint,
    Hello,
    Message,
    Request,
    Round,
    Tokens,
    Verdict,
    Verification,
    Welcome,
    pack_ids,
)
from tests.decoding.strategies import gamma_of
from tests.decoding.world import PICTURE
from tests.wire.strategies import SERVED

VOCAB, LIMIT, GAMMA = 50, 20, 4
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
