"""What device and server sessions share: the committed output, how much of it each cache holds, and the errors of a broken protocol."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiflow_cli.decoding.acceptance import Judgement, draft_length
from aiflow_cli.decoding.actions import DraftTokens, Extend
from aiflow_cli.errors import ProtocolError


class OutOfTurn(ProtocolError):  # noqa: N818
    """A message or an event that the session does not wait for."""


class StaleMessage(ProtocolError):  # noqa: N818
    """A message about another round, request or length than the current one."""


class BadTokens(ProtocolError):  # noqa: N818
    """Token ids outside the vocabulary, too many of them, or counts that do not fit together."""


@dataclass
class Output:
    """The committed tokens of one response and its limits, with the caches' part of them."""

    max_new_tokens: int
    stop_ids: frozenset[int]
    vocab_size: int
    tokens: list[int] = field(default_factory=list)
    draft_cached: int = 0
    """Tokens of the output that the draft model's cache holds and that are valid."""

    @property
    def left(self) -> int:
        """How many tokens the output may still have."""
        return self.max_new_tokens - len(self.tokens)

    @property
    def stopped(self) -> bool:
        """Whether the output ends with an end token."""
        return bool(self.tokens) and self.tokens[-1] in self.stop_ids

    @property
    def done(self) -> bool:
        """Whether nothing may follow."""
        return self.stopped or self.left <= 0

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
        if not tokens or len(tokens) > self.left or self.stopped or any(t in self.stop_ids for t in tokens[:-1]):
            raise BadTokens(
                f"{len(tokens)} tokens where the output may have {0 if self.stopped else self.left} more, or some after its end"
            )
        self.tokens += self.check_ids(tokens)

    def draft_action(self, gamma: int) -> DraftTokens:
        """Draft after the committed tokens; the cache keeps what is valid of it and is fed the rest."""
        feed = tuple(self.tokens[self.draft_cached :])
        return DraftTokens(self.draft_cached, feed, draft_length(gamma, self.left), self.stop_ids)

    def check_draft(self, tokens: tuple[int, ...], gamma: int) -> None:
        """Raise BadTokens unless `tokens` may be drafted now."""
        if len(tokens) > draft_length(gamma, self.left):
            raise BadTokens(
                f"{len(tokens)} drafted tokens, of which {draft_length(gamma, self.left)} may be: the peers disagree"
            )
        self.check_ids(tokens)

    def verify_action(self, drafted: tuple[int, ...]) -> Extend:
        """Verify drafts in one pass: the target's cache holds all committed tokens but the last."""
        return Extend(len(self.tokens) - 1, (self.tokens[-1], *drafted))

    def apply(self, judgement: Judgement, drafted: tuple[int, ...]) -> tuple[int, ...]:
        """Commit a round; returns its tokens. The draft's cache holds what was committed before and all drafts but the last."""
        base = len(self.tokens)
        delivered = judgement.delivered(drafted)
        self.commit(delivered)
        self.draft_cached = base + min(judgement.accepted, max(0, len(drafted) - 1)) if drafted else self.draft_cached
        return delivered
