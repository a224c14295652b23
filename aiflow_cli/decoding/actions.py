"""What a session asks for. Cached lengths count from the end of the prompt: 0 keeps the prompt alone.

Work carries a ticket, which it is given as it is asked for and by which its answer is known: there may be several
pieces at once, and an answer may come when it is no longer wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from aiflow_cli.decoding.events import Drafted, Extended, Prefilled
from aiflow_cli.wire.messages import Input, Message


@dataclass(frozen=True)
class Send:
    """Send a message to the peer."""

    message: Message


@dataclass(frozen=True, kw_only=True)
class Prefill:
    """Prefill a model with the request's input and prompt; answer with Prefilled."""

    answer: ClassVar = Prefilled
    ticket: int = 0
    model: Literal["target", "draft"]
    input: Input
    prompt: str
    max_new_tokens: int


@dataclass(frozen=True, kw_only=True)
class Extend:
    """Target: keep the first `keep` cached tokens, append `tokens` in one pass; answer with Extended.

    `margins`: answer with the gap between the two best logits too. `singly`: one token a pass, as server-only does it
    (`decoding/exact.py`).
    """

    answer: ClassVar = Extended
    ticket: int = 0
    keep: int
    tokens: tuple[int, ...]
    margins: bool = False
    singly: bool = False


@dataclass(frozen=True, kw_only=True)
class DraftTokens:
    """Draft model: keep `keep` cached tokens, append `feed` (never empty), draft up to `count` (at least 1) tokens,
    stopping after one of `stop_ids`; answer with Drafted. The last drafted token is not appended.
    """

    answer: ClassVar = Drafted
    ticket: int = 0
    keep: int
    feed: tuple[int, ...]
    count: int
    stop_ids: frozenset[int]


@dataclass(frozen=True)
class Deliver:
    """Device: these output tokens are there."""

    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Finish:
    """The response is complete; `stopped` tells an end token from the maximum length."""

    stopped: bool


Work = Prefill | Extend | DraftTokens
Action = Send | Deliver | Finish | Work
