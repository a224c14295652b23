"""A page of held-out scenes with what target and drafts say of them, wrong slots marked: one file, pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

from jinja2 import StrictUndefined, Template

from aiflow_cli.images.captions import mark_caption
from aiflow_cli.images.drawing import encode_jpeg, render
from aiflow_cli.images.scenes import scene_at
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.training.evaluate import greedy_ids
from aiflow_cli.training.recipe import HELD_OUT_SEED

Models = Sequence[tuple[str, VisionLanguageModel]]
"""By name."""


def gallery_page(
    title: str,
    models: Models,
    question: str,
    scenes: int,
    advance: Callable[[int], None],
) -> str:
    """The page: `scenes` held-out scenes with every model's caption; `advance(done)` is called after each."""
    figures = []
    for index in range(scenes):
        figures.append(_figure(index, models, question))
        advance(index + 1)
    source = (resources.files("aiflow_cli.training") / "gallery.html").read_text("utf-8")
    page = Template(source, autoescape=True, keep_trailing_newline=True, undefined=StrictUndefined)
    return str(page.render(title=title, figures=figures))


def _figure(index: int, models: Models, question: str) -> dict[str, Any]:
    """One scene: its JPEG in base64; what each model says of it, and the slots that are wrong."""
    scene = scene_at(HELD_OUT_SEED, index)
    image, captions = encode_jpeg(render(scene)), []
    for name, model in models:
        decoder = model.decoder(model.image_tokens + 256)
        caption = model.tokenizer.decode(greedy_ids(decoder, model, image, question, 160))
        wrong = [slot for slot, right in mark_caption(caption, scene) if not right]
        captions.append({"model": name, "caption": caption, "wrong": wrong})
    return {"picture": base64.b64encode(image).decode(), "captions": captions}
