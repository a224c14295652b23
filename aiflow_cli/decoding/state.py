"""What all methods share on both sides: the output so far, the work under way, the errors of a broken protocol."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from aiflow_cli.decoding.actions import Action, Work
from aiflow_cli.decoding.events import WorkDone
from aiflow_cli.errors import ProtocolError
from aiflow_cli.wire.messages import unpack_ids


class OutOfTurn(ProtocolError):  # noqa: N818
    """A message or an event that the session does not wait for."""


class BadTokens(ProtocolError):  # noqa: N818
    """Token ids outside the vocabulary, too many of them, or some after the end."""


class BadCounts(ProtocolError):  # noqa: N818
    """Counts in a message that do not fit together, or not with what was drafted."""


class BadRequest(ProtocolError):  # noqa: N818
    """A request that cannot be served, or a draft that its method cannot have."""


@dataclass
class Output:
    """The committed tokens of one response, and its limits."""

    max_new_tokens: int
    stop_ids: frozenset[int]
    vocab_size: int
    tokens: list[int] = field(default_factory=list)

    @property
    def room(self) -> int:
        """How many tokens the output may still have."""
        return self.max_new_tokens - len(self.tokens)

    @property
    def stopped(self) -> bool:
        """Whether the output ends with an end token."""
        return bool(self.tokens) and self.tokens[-1] in self.stop_ids

    @property
    def done(self) -> bool:
        """Whether nothing may follow."""
        return self.stopped or self.room <= 0

    def unpack(self, packed: bytes) -> tuple[int, ...]:
        """Ids of a message, if all are of the vocabulary; raises BadTokens."""
        try:
            ids = unpack_ids(packed)
        except ValueError as error:
            raise BadTokens(str(error)) from None
        return self.check_ids(ids)

    def check_ids(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """`ids`, if all are of the vocabulary; raises BadTokens."""
        for index in ids:
            if not 0 <= index < self.vocab_size:
                raise BadTokens(
                    f"token id {index} is outside the vocabulary of {self.vocab_size}: the peer has another pair"
                )
        return ids

    def commit(self, tokens: tuple[int, ...]) -> None:
        """Append tokens to the output; raises BadTokens if there are too many, or some after the end."""
        if not tokens or len(tokens) > self.room or self.stopped or any(t in self.stop_ids for t in tokens[:-1]):
            raise BadTokens(
                f"{len(tokens)} tokens where the output may have {0 if self.stopped else self.room} more, "
                "or some after its end"
            )
        self.tokens += self.check_ids(tokens)

    def resume(self, tokens: tuple[int, ...]) -> None:
        """Begin with tokens that were made before; raises BadTokens if nothing is left to do."""
        self.commit(tokens)
        if self.done:
            raise BadTokens(f"{len(tokens)} committed tokens, behind which nothing may follow")


class Turns:
    """The work that a session has asked for, by ticket, and what is to be done with each answer."""

    def __init__(self) -> None:
        self._tickets = itertools.count(1)
        self._waiting: dict[int, tuple[Work, Callable[[Any], list[Action]]]] = {}

    def ask(self, work: Work, then: Callable[[Any], list[Action]]) -> Work:
        """`work` with its ticket; `then` gets the answer."""
        work = replace(work, ticket=next(self._tickets))
        self._waiting[work.ticket] = (work, then)
        return work

    def answered(self, event: WorkDone) -> list[Action]:
        """What an answer leads to; nothing if no one waits for it. Raises OutOfTurn for an answer to other work."""
        if (asked := self._waiting.pop(event.ticket, None)) is None:
            return []
        work, then = asked
        if not isinstance(event, work.answer):
            raise OutOfTurn(f"{type(event).__name__} is no answer to {type(work).__name__}")
        return then(event)

    def forget(self) -> None:
        """Wait for nothing any more."""
        self._waiting.clear()
