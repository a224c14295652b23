"""Models that are functions of the text before: as arbitrary as a seed makes them, with a cache that notices when it is
misused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from aiflow_cli.decoding.actions import DraftTokens, Extend, Prefill

NextToken = Callable[[tuple[int, ...]], int]


@dataclass(frozen=True)
class Behaviour:
    """What target and draft say after any text, drawn by `seed`: the draft agrees with the target on `agreement` of all
    texts.

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
    """A model behind a cache of the text after the prompt. Every answer is computed from the cache, so a wrong one
    shows.
    """

    next_token: NextToken
    cache: list[int] | None = None
    said: dict[tuple[int, ...], int] = field(default_factory=dict)
    """What the model was asked, and answered."""
    fed: list[int] = field(default_factory=list)
    """The size of every pass."""

    def prefill(self, _work: Prefill) -> int:
        self.cache = []
        return self._say()

    def extend(self, work: Extend) -> tuple[int, ...]:
        if work.singly:
            kept = range(work.keep, work.keep + len(work.tokens))
            return tuple(self._append(at, [token])[0] for at, token in zip(kept, work.tokens, strict=True))
        return self._append(work.keep, work.tokens)

    def margins(self) -> tuple[float, ...]:
        return (9.0,) * self.fed[-1]

    def draft(self, work: DraftTokens) -> Iterator[int]:
        assert work.count > 0, "a count of 0 asks for nothing"
        token = self._append(work.keep, work.feed)[-1]
        yield token
        for _ in range(work.count - 1):
            if token in work.stop_ids:
                return
            (token,) = self._append(self._length(), [token])
            yield token

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
