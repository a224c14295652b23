"""Prompts as the original code writes them, and what ends an answer, by conversation template.

Source: OpenGVLab/InternVL, `conversation.py` and `chat()`; the template is named in config.json. "aiflow-small" is the template of the
pair that ships: image, question, end of prompt, no roles.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.tokenizer import Tokenizer

IMAGE_START, IMAGE_END, IMAGE_CONTEXT = "<img>", "</img>", "<IMG_CONTEXT>"
_SYSTEM = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"


@dataclass(frozen=True)
class Template:
    """`text` has places for system and question; `stop` ends an answer, and only that does."""

    text: str
    stop: str
    image_break: str = "\n"
    """What stands between the image and the question."""


_CHATML = Template(
    "<|im_start|>system\n{system}<|im_end|><|im_start|>user\n{question}<|im_end|><|im_start|>assistant\n", "<|im_end|>"
)
TEMPLATES = {
    "internlm2-chat": _CHATML,
    "Hermes-2": _CHATML,
    "phi3-chat": Template("<|system|>\n{system}<|end|><|user|>\n{question}<|end|><|assistant|>\n", "<|end|>"),
    "aiflow-small": Template("{question}<|im_end|>", "</s>", image_break=""),
}


@dataclass(frozen=True)
class Prompt:
    """What a model is given: token ids with the image's places, and its pixels float32 [tiles, 3, side, side] (None without an image)."""

    input_ids: list[int]
    pixel_values: Tensor | None = field(default=None, compare=False)

    def __len__(self) -> int:
        """Positions that the prompt takes in the cache."""
        return len(self.input_ids)


def find_template(name: str) -> Template:
    """The template that a config.json names; raises CheckpointError with the known ones."""
    if name not in TEMPLATES:
        raise CheckpointError(f"conversation template {name!r} is not known: know {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


def prompt_text(template: Template, question: str, has_image: bool) -> str:
    """The prompt before the image's place is filled: with an image, the question begins with `<image>` unless it holds one."""
    if has_image and "<image>" not in question:
        question = f"<image>{template.image_break}{question}"
    return template.text.format(system=_SYSTEM, question=question)


def prompt_ids(tokenizer: Tokenizer, template: Template, question: str, image_tokens: int) -> list[int]:
    """Token ids of a prompt with `image_tokens` image places (0: no image)."""
    text = prompt_text(template, question, image_tokens > 0)
    if image_tokens:
        text = text.replace("<image>", IMAGE_START + IMAGE_CONTEXT * image_tokens + IMAGE_END, 1)
    return tokenizer.encode(text)
