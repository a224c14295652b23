"""A model and one cache over it, doing what a session's actions ask for. Lengths count from the end of the prompt."""

from __future__ import annotations

from collections.abc import Iterator

from aiflow_cli.decoding.actions import DraftTokens, Extend, Prefill
from aiflow_cli.models.decoder import Decoder
from aiflow_cli.models.vlm import VisionLanguageModel

ROOM_STEP = 256
"""Caches grow in steps of this many positions, so that images of similar size share one."""


class Compute:
    """A `Model` of `node/perform.py`. The cache is kept from one response to the next."""

    def __init__(self, model: VisionLanguageModel) -> None:
        """Nothing is allocated before the first prefill."""
        self.model = model
        self._decoder: Decoder
        """Over a cache with room for `_room` positions. A session asks for nothing else before a prefill."""
        self._room = 0

    def prefill(self, work: Prefill) -> int:
        """Decode and tile the picture, run the prompt; the most likely first token.

        Raises ImageError, and UsageError for a bad question, or if prompt and answer need more room than the model has;
        none is made then.
        """
        prompt = self.model.prepare(work.input.data, work.prompt)
        needed = self.model.room(len(prompt), work.max_new_tokens)
        if needed > self._room:
            self._room = min(-(-needed // ROOM_STEP) * ROOM_STEP, self.model.positions)
            self._decoder = self.model.decoder(self._room)
        return self._decoder.prefill(prompt)

    def extend(self, work: Extend) -> tuple[int, ...]:
        """One pass over the work's tokens, or one for each of them; the most likely token after each."""
        decoder = self._at(work.keep)
        if work.singly:
            return tuple(decoder.extend([token])[0] for token in work.tokens)
        return tuple(decoder.extend(work.tokens))

    def margins(self) -> tuple[float, ...]:
        """The gap between the two best logits, for every position of the last pass."""
        best = self._decoder.last_logits.float().topk(2).values
        return tuple((best[:, 0] - best[:, 1]).tolist())

    def draft(self, work: DraftTokens) -> Iterator[int]:
        """Draft greedily, a token a pass, until the count is reached or an end token was drafted."""
        decoder = self._at(work.keep)
        token = decoder.extend(work.feed)[-1]
        yield token
        for _ in range(work.count - 1):
            if token in work.stop_ids:
                return
            (token,) = decoder.extend((token,))
            yield token

    def _at(self, keep: int) -> Decoder:
        self._decoder.keep(self._decoder.prompt_length + keep)
        return self._decoder
