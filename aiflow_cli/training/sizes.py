"""Sizes of the small pair's three models, and their config.json in the layout of InternVL2."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

QUESTION = "Describe the scene."
ADDED_TOKENS = ("<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
BOS_ID, EOS_ID = 1, 2


@dataclass(frozen=True)
class Size:
    """A model of the small pair: the view it has of a picture, its vision tower, and its language model."""

    folder: str
    view: int
    patch: int
    vision: tuple[int, int, int, int]
    """Layers, width, heads, feed-forward width."""
    language: tuple[int, int, int, int]

    @property
    def image_tokens(self) -> int:
        """Places of the image in the prompt: patches over four."""
        return (self.view // self.patch) ** 2 // 4


TARGET = Size("small-target", 112, 14, (4, 192, 3, 576), (32, 128, 4, 352))
DRAFT = Size("small-draft", 112, 14, (2, 96, 4, 288), (4, 128, 4, 352))
WEAK_DRAFT = Size("small-weak-draft", 56, 7, (1, 48, 2, 144), (4, 128, 4, 352))
"""The device's camera gives this draft a quarter of the pixels, and it was not taught by the target."""
_DIMENSIONS = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")


def original_config(size: Size, vocab_size: int) -> dict[str, Any]:
    """config.json of a model of this size, with the fields of OpenGVLab/InternVL2-2B: the target's, resized."""
    config: dict[str, Any] = json.loads((resources.files("aiflow_cli.training") / "config.json").read_text("utf-8"))
    config["force_image_size"] = size.view
    language, vision = config["llm_config"], config["vision_config"]
    language |= zip(_DIMENSIONS, size.language, strict=True)
    language |= {"num_key_value_heads": language["num_attention_heads"], "vocab_size": vocab_size}
    vision |= zip(_DIMENSIONS, size.vision, strict=True)
    vision |= {"image_size": size.view, "patch_size": size.patch}
    return config
