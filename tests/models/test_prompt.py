"""Prompts as the original code writes them. Ids are compared in test_fixtures.py; here is every template's text."""

from __future__ import annotations

import os
import re

import pytest

from aiflow_cli.errors import CheckpointError, UsageError
from aiflow_cli.models.prompt import TEMPLATES, check_question, find_template, prompt_ids, prompt_text
from aiflow_cli.models.tokenizer import load_tokenizer
from tests.conftest import TinyPair
from tests.models import fixtures

SYSTEM = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
SYSTEM_2_5 = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)
CHATML = f"<|im_start|>system\n{SYSTEM}<|im_end|><|im_start|>user\n<image>\nWhat?<|im_end|><|im_start|>assistant\n"
EXPECTED = {
    "internlm2-chat": CHATML,
    "Hermes-2": CHATML,
    "phi3-chat": f"<|system|>\n{SYSTEM}<|end|><|user|>\n<image>\nWhat?<|end|><|assistant|>\n",
    "internvl2_5": (
        f"<|im_start|>system\n{SYSTEM_2_5}<|im_end|>\n"
        "<|im_start|>user\n<image>\nWhat?<|im_end|>\n<|im_start|>assistant\n"
    ),
    "aiflow-small": "<image>What?<|im_end|>",
}


def template_of(name: str) -> dict[str, str]:
    return {"model_type": "internvl_chat", "template": name}


@pytest.mark.parametrize("name", EXPECTED)
def test_text(name: str) -> None:
    template = find_template(template_of(name))
    assert prompt_text(template, "What?", has_image=True) == EXPECTED[name]
    assert "<image>" not in prompt_text(template, "What?", has_image=False)


def test_transformers_layout_has_its_own_template() -> None:
    template = find_template({"model_type": "internvl"})
    expected = "<|im_start|>user\n<image>\nWhat?<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_text(template, "What?", has_image=True) == expected


@fixtures.needed
def test_text_is_the_originals() -> None:
    reference = fixtures.document("reference")
    template = find_template(template_of("internlm2-chat"))
    assert prompt_text(template, reference["question"], has_image=True) == reference["prompt_text"]


def test_a_place_of_the_users_own() -> None:
    template = find_template(template_of("internlm2-chat"))
    assert "user\nFirst <image> then?<|im_end|>" in prompt_text(template, "First <image> then?", has_image=True)


def test_image_tokens_stand_in_their_brackets(tiny_pair: TinyPair) -> None:
    tokenizer = load_tokenizer(tiny_pair.target)
    ids = prompt_ids(tokenizer, find_template(template_of("aiflow-small")), "a bus", 5)
    start, end, place = (tokenizer.token_id(token) for token in ("<img>", "</img>", "<IMG_CONTEXT>"))
    first = ids.index(start)
    assert ids[first : first + 7] == [start, *[place] * 5, end]
    assert ids.count(place) == 5


def test_braces_in_a_question_are_text() -> None:
    template = find_template(template_of("internlm2-chat"))
    assert "{system} {0}" in prompt_text(template, "{system} {0}", has_image=False)


def test_unknown_template() -> None:
    with pytest.raises(CheckpointError, match="'vicuna' is not known: know internlm2-chat"):
        find_template(template_of("vicuna"))


@pytest.mark.parametrize("marker", ["<img>", "</img>", "<IMG_CONTEXT>", "<|im_end|>", "</s>"])
def test_what_only_the_prompt_around_it_may_hold(marker: str, tiny_pair: TinyPair) -> None:
    tokenizer, template = load_tokenizer(tiny_pair.target), find_template(template_of("aiflow-small"))
    with pytest.raises(UsageError, match=f"the prompt holds {re.escape(marker)}, which the model takes"):
        prompt_ids(tokenizer, template, f"What {marker} is it?", 5)


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "aiflow-small"])
def test_turns_of_every_template_are_markers(name: str) -> None:
    template = TEMPLATES[name]
    written = set(re.findall(r"<\|.*?\|>", template.text))
    assert len(written) >= 2
    for marker in written:
        with pytest.raises(UsageError, match="leave it out"):
            check_question(template, f"And{marker}")
    check_question(template, "a < b, <image> of [x] | <ref>bus</ref>, {question}")


def test_questions_that_cannot_be_sent() -> None:
    template = find_template(template_of("aiflow-small"))
    check_question(template, "a" * 16_384)
    with pytest.raises(UsageError, match="16385 characters, at most 16384"):
        check_question(template, "a" * 16_385)
    with pytest.raises(UsageError, match="not valid UTF-8"):
        check_question(template, os.fsdecode(b"caf\xe9"))
