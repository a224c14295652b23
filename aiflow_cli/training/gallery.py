"""A page of held-out scenes with what target and drafts say of them, wrong slots marked: one HTML file, pictures inside."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiflow_cli.images.captions import mark, read, truth
from aiflow_cli.images.drawing import encode_jpeg, render
from aiflow_cli.images.scenes import Scene, scene_at
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.training.evaluate import HELD_OUT_SEED, greedy_ids

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
.scenes { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.5rem; }
figure { margin: 0; } img { width: 100%; border-radius: 6px; display: block; }
dt { font-weight: 600; margin-top: .5rem; } dd { margin: 0; }
.wrong { color: #b3261e; } .right { color: #1b6e3c; }
@media (prefers-color-scheme: dark) { .wrong { color: #ff8a80; } .right { color: #7fd6a0; } }
"""


@dataclass(frozen=True)
class Said:
    """What one model says of one scene, and the names of the slots it has wrong."""

    model: str
    caption: str
    wrong: tuple[str, ...]


def caption_scene(name: str, model: VisionLanguageModel, scene: Scene, question: str) -> Said:
    """One model's greedy caption of `scene`, marked."""
    decoder = model.decoder(model.image_tokens + 256)
    caption = model.tokenizer.decode(greedy_ids(decoder, model, encode_jpeg(render(scene)), question, 160))
    return Said(name, caption, tuple(slot for slot, right in mark(read(caption), truth(scene)) if not right))


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
        scene = scene_at(HELD_OUT_SEED, index)
        figures.append(_figure(scene, [caption_scene(name, model, scene, question) for name, model in models]))
        advance(index + 1)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<p>Held-out rendered scenes; each model's own greedy caption, and which of its slots are wrong.</p>"
        f"<div class=scenes>{''.join(figures)}</div></html>\n"
    )


def _figure(scene: Scene, captions: Sequence[Said]) -> str:
    picture = base64.b64encode(encode_jpeg(render(scene))).decode()
    said = "".join(
        f"<dt>{html.escape(s.model)} <small class={'wrong' if s.wrong else 'right'}>"
        f"{'wrong: ' + html.escape(', '.join(s.wrong)) if s.wrong else 'all right'}</small></dt><dd>{html.escape(s.caption)}</dd>"
        for s in captions
    )
    return f"<figure><img alt='a rendered scene' src='data:image/jpeg;base64,{picture}'><dl>{said}</dl></figure>"
