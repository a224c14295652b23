"""What a session asks for. Cached lengths count from the end of the prompt: 0 keeps the prompt alone."""

from __future__ import annotations

from dataclasses import dataclass

from aiflow_cli.wire.messages import Message


@dataclass(frozen=True)
class Send:
    """Send a message to the peer."""

    message: Message


@dataclass(frozen=True)
class PrefillTarget:
    """Prefill the target with the request's image and prompt; answer with Prefilled."""

    image: bytes
    prompt: str
    max_new_tokens: int


@dataclass(frozen=True)
class PrefillDraft:
    """Prefill the draft model with the request's image and prompt; answer with Prefilled."""

    image: bytes
    prompt: str
    max_new_tokens: int


@dataclass(frozen=True)
class Extend:
    """Target: roll back to `keep` cached tokens, append `tokens` in one pass; answer with Extended.

    `margins`: answer with the gap between the two best logits too. `singly`: one token a pass, as server-only does it (`decoding/exact.py`).
    """

    keep: int
    tokens: tuple[int, ...]
    margins: bool = False
    singly: bool = False


@dataclass(frozen=True)
class DraftTokens:
    """Draft model: roll back to `keep`, append `feed` (never empty), draft up to `count` tokens, stopping after one of `stop_ids`;
    answer with Drafted. The last drafted token is not appended. A `count` of 0 asks for nothing: answer with no tokens."""

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


Action = Send | PrefillTarget | PrefillDraft | Extend | DraftTokens | Deliver | Finish
