"""A page of held-out scenes with what target and drafts say of them, wrong slots marked: one HTML file, pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import StrictUndefined, Template

from aiflow_cli.images.captions import mark_caption
from aiflow_cli.images.drawing import encode_jpeg, render
from aiflow_cli.images.scenes import scene_at
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.training.evaluate import greedy_ids
from aiflow_cli.training.recipe import HELD_OUT_SEED


@dataclass(frozen=True)
class Said:
    """What one model says of one scene, and the names of the slots it has wrong."""

    model: str
    caption: str
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """One scene: its JPEG in base64, and each model's caption."""

    picture: str
    captions: Sequence[Said]


def gallery_page(
    title: str,
    models: Sequence[tuple[str, VisionLanguageModel]],
    question: str,
    scenes: int,
    advance: Callable[[int], None],
) -> str:
    """The page: `scenes` held-out scenes, each with every model's caption; `advance(done)` is called after each scene."""
    figures = []
    for index in range(scenes):
        figures.append(_figure(index, models, question))
        advance(index + 1)
    source = (resources.files("aiflow_cli.training") / "gallery.html").read_text("utf-8")
    page = Template(source, autoescape=True, keep_trailing_newline=True, undefined=StrictUndefined)
    return str(page.render(title=title, figures=figures))


def _figure(index: int, models: Sequence[tuple[str, VisionLanguageModel]], question: str) -> Figure:
    scene, captions = scene_at(HELD_OUT_SEED, index), []
    image = encode_jpeg(render(scene))
    for name, model in models:
        decoder = model.decoder(model.image_tokens + 256)
        caption = model.tokenizer.decode(greedy_ids(decoder, model, image, question, 160))
        wrong = tuple(slot for slot, right in mark_caption(caption, scene) if not right)
        captions.append(Said(name, caption, wrong))
    return Figure(base64.b64encode(image).decode(), captions)
