"""What a session is told. Durations are measured by whoever drives it, in microseconds; the session has no clock.

An answer to work carries the work's ticket. A session that waits for that ticket no more (its request was cancelled,
say) ignores it.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiflow_cli.wire.messages import Message


@dataclass(frozen=True)
class Started:
    """Device: begin the response."""


@dataclass(frozen=True)
class Cancelled:
    """Device: give the response up."""


@dataclass(frozen=True)
class Received:
    """A message arrived."""

    message: Message


@dataclass(frozen=True)
class Prefilled:
    """`Prefill` is done: `token` is the model's most likely first token."""

    ticket: int
    token: int
    compute_us: int = 0
    queue_us: int = 0


@dataclass(frozen=True)
class Extended:
    """`Extend` is done: the target's most likely token after each appended one, and its margins if asked for."""

    ticket: int
    predictions: tuple[int, ...]
    margins: tuple[float, ...] = ()
    compute_us: int = 0
    queue_us: int = 0


@dataclass(frozen=True)
class Drafted:
    """`DraftTokens` is done."""

    ticket: int
    tokens: tuple[int, ...]
    compute_us: int = 0
    queue_us: int = 0


WorkDone = Prefilled | Extended | Drafted
Event = Started | Cancelled | Received | WorkDone
