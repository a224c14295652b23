"""How good a pair is on rendered scenes: caption slots of its models, and how often the target accepts the draft.

Captions are free-running and greedy, through the whole path that a trial takes: JPEG, preprocessing, prompt, decoder.
Acceptance is exact for every draft length at once, from one teacher-forced pass of the draft over the target's text
(`decoding/run_lengths.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aiflow_cli.decoding.run_lengths import acceptance_by_position, split_into_rounds
from aiflow_cli.images.captions import mark_caption
from aiflow_cli.images.drawing import encode_jpeg, render
from aiflow_cli.images.scenes import Scene, scene_at
from aiflow_cli.models.decoder import Decoder
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.training.recipe import HELD_OUT_SEED

GAMMAS = range(1, 29)

_ROOM = 160
"""The longest caption, in tokens."""


@dataclass(frozen=True)
class Quality:
    """Marks of one model: share of all slots right, of each slot by its name, and of captions without a fault."""

    slots: float
    slot: dict[str, float]
    exact: float


@dataclass(frozen=True)
class Evaluation:
    """Marks of target and draft; `matches` says for each caption which of the target's tokens the draft predicts."""

    scenes: int
    target: Quality
    draft: Quality
    matches: list[list[bool]]

    @property
    def alpha(self) -> float:
        """Share of the target's tokens (after its first) that the draft predicts, given the target's own text."""
        return sum(map(sum, self.matches)) / max(1, sum(map(len, self.matches)))

    @property
    def tokens_per_round(self) -> dict[int, float]:
        """Mean tokens that a round delivers, by draft length."""
        return {gamma: self._per_round(gamma) for gamma in GAMMAS}

    def _per_round(self, gamma: int) -> float:
        rounds = [step for matches in self.matches for step in split_into_rounds(matches, gamma)]
        return sum(rounds) / max(1, len(rounds))

    @property
    def conditional_acceptance(self) -> list[float | None]:
        """By draft position 1, 2, ... at the longest draft length."""
        return acceptance_by_position(self.matches, GAMMAS[-1])

    def as_json(self) -> dict[str, Any]:
        """The document of `aiflow pairs evaluate --json`."""
        return {
            "schema_version": 1,
            "scenes": self.scenes,
            "seed": HELD_OUT_SEED,
            "target": asdict(self.target),
            "draft": asdict(self.draft),
            "alpha": self.alpha,
            "tokens_per_round": {str(gamma): value for gamma, value in self.tokens_per_round.items()},
            "conditional_acceptance": self.conditional_acceptance,
        }


def grade(captions: Sequence[str], scenes: Sequence[Scene]) -> Quality:
    """Mark captions against the scenes they describe."""
    by_name: dict[str, list[bool]] = defaultdict(list)
    exact = 0
    for caption, scene in zip(captions, scenes, strict=True):
        marks = mark_caption(caption, scene)
        exact += all(right for _, right in marks)
        for name, right in marks:
            by_name[name].append(right)
    total = [right for marks in by_name.values() for right in marks]
    slot = {name: sum(marks) / len(marks) for name, marks in by_name.items()}
    return Quality(sum(total) / len(total), slot, exact / len(scenes))


def greedy_ids(
    decoder: Decoder, model: VisionLanguageModel, image: bytes, question: str, max_new_tokens: int
) -> list[int]:
    """The model's own greedy output for an image, end token included."""
    ids = [decoder.prefill(model.prepare(image, question))]
    while ids[-1] not in model.eos_ids and len(ids) < max_new_tokens:
        ids += decoder.extend(ids[-1:])
    return ids


def draft_matches(
    decoder: Decoder, model: VisionLanguageModel, image: bytes, question: str, text: Sequence[int]
) -> list[bool]:
    """Which tokens of `text` after its first the draft predicts, given those before: one pass over the text."""
    decoder.prefill(model.prepare(image, question))
    predicted = decoder.extend(text[:-1]) if len(text) > 1 else []
    return [a == b for a, b in zip(predicted, text[1:], strict=True)]


def evaluate_pair(
    target: VisionLanguageModel,
    draft: VisionLanguageModel,
    question: str,
    scenes: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Evaluate a pair on the first `scenes` held-out scenes; `progress(done, all)` is called after each."""
    target_decoder, draft_decoder = (model.decoder(model.image_tokens + _ROOM + 64) for model in (target, draft))
    drawn = [scene_at(HELD_OUT_SEED, index) for index in range(scenes)]
    said: tuple[list[str], list[str]] = ([], [])
    matches = []
    for done, scene in enumerate(drawn, 1):
        image = encode_jpeg(render(scene))
        text = greedy_ids(target_decoder, target, image, question, _ROOM)
        own = greedy_ids(draft_decoder, draft, image, question, _ROOM)
        matches.append(draft_matches(draft_decoder, draft, image, question, text))
        said[0].append(target.tokenizer.decode(text))
        said[1].append(draft.tokenizer.decode(own))
        progress(done, scenes)
    return Evaluation(scenes, grade(said[0], drawn), grade(said[1], drawn), matches)
