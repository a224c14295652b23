"""Prompts as the original code writes them, and what ends an answer, by conversation template.

Source: OpenGVLab/InternVL, `conversation.py` and `chat()`; the template is named in config.json. Checkpoints in
transformers' layout ("internvl-hf") have the chat template of their processor. "aiflow-small" is the template of the
pair that ships: image, question, end of prompt, no roles. Proved id for id by the reference fixtures: internlm2-chat.
The others follow the source, without a fixture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from aiflow_cli.errors import CheckpointError, UsageError
from aiflow_cli.models.config import is_original
from aiflow_cli.models.tokenizer import Tokenizer
from aiflow_cli.wire.messages import MAX_PROMPT_CHARACTERS

IMAGE_START, IMAGE_END, IMAGE_CONTEXT = "<img>", "</img>", "<IMG_CONTEXT>"
_TURN = re.compile(r"<\|\w+\|>")
"""How templates write what begins and ends a turn."""
_SYSTEM = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
_SYSTEM_2_5 = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)


@dataclass(frozen=True)
class Template:
    """`text` has places for system and question; `stop` ends an answer, and only that does."""

    text: str
    stop: str
    image_break: str = "\n"
    """What stands between the image and the question."""
    system: str = _SYSTEM


_CHATML = Template(
    "<|im_start|>system\n{system}<|im_end|><|im_start|>user\n{question}<|im_end|><|im_start|>assistant\n", "<|im_end|>"
)
TEMPLATES = {
    "internlm2-chat": _CHATML,
    "Hermes-2": _CHATML,
    "phi3-chat": Template("<|system|>\n{system}<|end|><|user|>\n{question}<|end|><|assistant|>\n", "<|end|>"),
    "internvl2_5": Template(
        "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>",
        system=_SYSTEM_2_5,
    ),
    "internvl-hf": Template("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"),
    "aiflow-small": Template("{question}<|im_end|>", "</s>", image_break=""),
}


@dataclass(frozen=True)
class Prompt:
    """Token ids with the image's places, and its pixels, float32 [tiles, 3, side, side] (None without an image)."""

    input_ids: list[int]
    pixel_values: Tensor | None = field(default=None, compare=False)

    def __len__(self) -> int:
        """Positions that the prompt takes in the cache."""
        return len(self.input_ids)


def find_template(config: dict[str, Any]) -> Template:
    """The template that a config.json asks for; raises CheckpointError with the known ones."""
    name = config.get("template") if is_original(config) else "internvl-hf"
    if not isinstance(name, str) or name not in TEMPLATES:
        raise CheckpointError(f"conversation template {name!r} is not known: know {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


def prompt_text(template: Template, question: str, has_image: bool) -> str:
    """The prompt, the image's place not filled: with one, the question begins with `<image>` unless it holds it."""
    if has_image and "<image>" not in question:
        question = f"<image>{template.image_break}{question}"
    return template.text.format(system=template.system, question=question)


def check_question(template: Template, question: str) -> None:
    """Raise UsageError for a question that is no text, is too long for a message, or holds the prompt's own marks."""
    if (length := len(question)) > MAX_PROMPT_CHARACTERS:
        raise UsageError(f"the prompt has {length} characters, at most {MAX_PROMPT_CHARACTERS} can be sent: shorten it")
    if any("\ud800" <= character <= "\udfff" for character in question):
        raise UsageError("the prompt is not valid UTF-8: check how it was typed or read")
    for marker in (IMAGE_START, IMAGE_END, IMAGE_CONTEXT, template.stop, *_TURN.findall(template.text)):
        if marker in question:
            said = f"the prompt holds {marker}, which the model takes for a part of the conversation itself"
            raise UsageError(f"{said}: leave it out")


def prompt_ids(tokenizer: Tokenizer, template: Template, question: str, image_tokens: int) -> list[int]:
    """Token ids of a prompt with `image_tokens` image places (0: no image). Raises UsageError for a bad question."""
    check_question(template, question)
    text = prompt_text(template, question, image_tokens > 0)
    if image_tokens:
        text = text.replace("<image>", IMAGE_START + IMAGE_CONTEXT * image_tokens + IMAGE_END, 1)
    return tokenizer.encode(text)
