"""How good a pair is on rendered scenes: caption slots of its models, and how often the target accepts the draft; and
a page that shows what they say.

Captions are free-running and greedy, through the whole path that a trial takes: JPEG, preprocessing, prompt, decoder.
Acceptance is exact for every draft length at once, from one teacher-forced pass of the draft over the target's text
(`decoding/run_lengths.py`).
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import chain
from typing import Any

import msgspec
from jinja2 import StrictUndefined, Template

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
        rounds = {gamma: [n for text in self.matches for n in split_into_rounds(text, gamma)] for gamma in GAMMAS}
        return {gamma: sum(delivered) / max(1, len(delivered)) for gamma, delivered in rounds.items()}

    @property
    def conditional_acceptance(self) -> list[float | None]:
        """By draft position 1, 2, ... at the longest draft length."""
        return acceptance_by_position(self.matches, GAMMAS[-1])

    def as_json(self) -> dict[str, Any]:
        """The document of `aiflow pairs evaluate --json`."""
        told = ("scenes", "target", "draft", "alpha", "tokens_per_round", "conditional_acceptance")
        values: dict[str, Any] = msgspec.to_builtins({name: getattr(self, name) for name in told}, str_keys=True)
        return {"schema_version": 1, "seed": HELD_OUT_SEED} | values


def grade(captions: Sequence[str], scenes: Sequence[Scene]) -> Quality:
    """Mark captions against the scenes they describe."""
    marked = [mark_caption(caption, scene) for caption, scene in zip(captions, scenes, strict=True)]
    by_name: dict[str, list[bool]] = defaultdict(list)
    for name, right in chain.from_iterable(marked):
        by_name[name].append(right)
    total = [right for marks in by_name.values() for right in marks]
    slot = {name: sum(marks) / len(marks) for name, marks in by_name.items()}
    exact = sum(all(right for _, right in marks) for marks in marked)
    return Quality(sum(total) / len(total), slot, exact / len(scenes))


def greedy_ids(
    decoder: Decoder, model: VisionLanguageModel, image: bytes, question: str, max_new_tokens: int = _ROOM
) -> list[int]:
    """The model's own greedy output for an image, end token included."""
    ids = [decoder.prefill(model.prepare(image, question))]
    while ids[-1] not in model.eos_ids and len(ids) < max_new_tokens:
        ids += decoder.extend(ids[-1:])
    return ids


def evaluate_pair(
    target: VisionLanguageModel,
    draft: VisionLanguageModel,
    question: str,
    scenes: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Evaluate a pair on the first `scenes` held-out scenes; `progress(done, all)` is called after each."""
    of_target, of_draft = (model.decoder(model.image_tokens + _ROOM + 64) for model in (target, draft))
    drawn = [scene_at(HELD_OUT_SEED, index) for index in range(scenes)]
    said: list[str] = []
    said_by_draft: list[str] = []
    matches = []
    for done, scene in enumerate(drawn, 1):
        image = encode_jpeg(render(scene))
        text = greedy_ids(of_target, target, image, question)
        said.append(target.tokenizer.decode(text))
        said_by_draft.append(draft.tokenizer.decode(greedy_ids(of_draft, draft, image, question)))
        # Which tokens of the text after its first the draft predicts, given those before: one pass over the text.
        of_draft.prefill(draft.prepare(image, question))
        predicted = of_draft.extend(text[:-1]) if len(text) > 1 else []
        matches.append([a == b for a, b in zip(predicted, text[1:], strict=True)])
        progress(done, scenes)
    return Evaluation(scenes, grade(said, drawn), grade(said_by_draft, drawn), matches)


def gallery_page(
    title: str, models: Mapping[str, VisionLanguageModel], question: str, scenes: int, advance: Callable[[int], None]
) -> str:
    """One file of HTML, pictures inside: `scenes` held-out scenes with every model's caption, wrong slots marked.

    `advance(done)` is called after each scene.
    """
    figures: list[dict[str, Any]] = []
    for index in range(scenes):
        scene, captions = scene_at(HELD_OUT_SEED, index), []
        image = encode_jpeg(render(scene))
        for name, model in models.items():
            ids = greedy_ids(model.decoder(model.image_tokens + _ROOM + 64), model, image, question)
            caption = model.tokenizer.decode(ids)
            wrong = [slot for slot, right in mark_caption(caption, scene) if not right]
            captions.append({"model": name, "caption": caption, "wrong": wrong})
        figures.append({"picture": base64.b64encode(image).decode(), "captions": captions})
        advance(index + 1)
    source = (resources.files("aiflow_cli.training") / "gallery.html").read_text("utf-8")
    page = Template(source, autoescape=True, keep_trailing_newline=True, undefined=StrictUndefined)
    return str(page.render(title=title, figures=figures))
