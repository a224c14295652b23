"""What a session is told. Durations are measured by whoever drives it, in microseconds; the session has no clock."""

from __future__ import annotations

from dataclasses import dataclass

from aiflow_cli.wire.messages import Message


@dataclass(frozen=True)
class Started:
    """Device: begin the response."""


@dataclass(frozen=True)
class Received:
    """A message arrived."""

    message: Message


@dataclass(frozen=True)
class Prefilled:
    """`PrefillTarget` or `PrefillDraft` is done: `token` is the model's most likely first token."""

    token: int
    compute_us: int = 0
    queue_us: int = 0


@dataclass(frozen=True)
class Extended:
    """`Extend` is done: the target's most likely token after each of the appended ones, and its margin over the next if asked for."""

    predictions: tuple[int, ...]
    compute_us: int = 0
    queue_us: int = 0
    margins: tuple[float, ...] = ()


@dataclass(frozen=True)
class Drafted:
    """`DraftTokens` is done."""

    tokens: tuple[int, ...]
    compute_us: int = 0


Event = Started | Received | Prefilled | Extended | Drafted
