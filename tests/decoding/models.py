"""Models that are functions of the text before: as arbitrary as a seed makes them, with a cache that notices when it is misused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aiflow_cli.decoding.actions import DraftTokens, Extend

NextToken = Callable[[tuple[int, ...]], int]


@dataclass(frozen=True)
class Behaviour:
    """What target and draft say after any text, drawn by `seed`: the draft agrees with the target on `agreement` of all texts.

    Nothing else is assumed: what either says after one text tells nothing of what it says after another.
    """

    seed: int
    vocab_size: int
    stop_ids: frozenset[int]
    stop_share: float
    agreement: float

    def target(self, text: tuple[int, ...]) -> int:
        return self._drawn(0, text)

    def draft(self, text: tuple[int, ...]) -> int:
        return self.target(text) if self._chance(1, text) < self.agreement else self._drawn(2, text)

    def _drawn(self, salt: int, text: tuple[int, ...]) -> int:
        if self.stop_ids and self._chance(salt + 10, text) < self.stop_share:
            return sorted(self.stop_ids)[self._number(salt + 20, text) % len(self.stop_ids)]
        return self._number(salt + 30, text) % self.vocab_size

    def _chance(self, salt: int, text: tuple[int, ...]) -> float:
        return self._number(salt, text) / 2**32

    def _number(self, salt: int, text: tuple[int, ...]) -> int:
        return hash((self.seed, salt, text)) & 0xFFFFFFFF  # of whole numbers: the same in every process


def greedy(next_token: NextToken, stop_ids: frozenset[int], max_new_tokens: int) -> list[int]:
    """The model's own output: a loop that knows nothing of caches, rounds or messages."""
    text: list[int] = []
    while len(text) < max_new_tokens and not (text and text[-1] in stop_ids):
        text.append(next_token(tuple(text)))
    return text


@dataclass
class CachedModel:
    """A model behind a cache of the text after the prompt. Every answer is computed from the cache, so a wrong one shows."""

    next_token: NextToken
    cache: list[int] | None = None
    said: dict[tuple[int, ...], int] = field(default_factory=dict)
    """What the model was asked, and answered."""
    fed: list[int] = field(default_factory=list)
    """The size of every pass."""

    def prefill(self) -> int:
        self.cache = []
        return self._say()

    def extend(self, action: Extend) -> tuple[int, ...]:
        return self._append(action.keep, action.tokens)

    def draft(self, action: DraftTokens) -> tuple[int, ...]:
        assert action.count > 0, "a count of 0 asks for nothing"
        drafted = [self._append(action.keep, action.feed)[-1]]
        while len(drafted) < action.count and drafted[-1] not in action.stop_ids:
            drafted += self._append(self._length(), drafted[-1:])
        return tuple(drafted)

    def _append(self, keep: int, tokens: Sequence[int]) -> tuple[int, ...]:
        assert tokens, "nothing is fed"
        assert 0 <= keep <= self._length(), f"the cache holds {self._length()} tokens, {keep} are to be kept"
        assert self.cache is not None
        del self.cache[keep:]
        self.fed.append(len(tokens))
        answers = []
        for token in tokens:
            self.cache.append(token)
            answers.append(self._say())
        return tuple(answers)

    def _length(self) -> int:
        assert self.cache is not None, "the model was not prefilled"
        return len(self.cache)

    def _say(self) -> int:
        assert self.cache is not None
        text = tuple(self.cache)
        self.said[text] = self.next_token(text)
        return self.said[text]
