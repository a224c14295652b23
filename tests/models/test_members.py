"""The members of the series with another language model, and checkpoints in transformers' own layout.

Random tiny weights. What is compared is the language model alone, loaded by transformers' own class as the original
code does it, so the mapping is not tested against itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, InternVLForConditionalGeneration

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.prompt import Prompt
from aiflow_cli.models.vlm import VisionLanguageModel
from tests.conftest import photograph
from tests.models import makers

IDS = [5, 17, 30, 31, 2, 9]


def language_alone(folder: Path) -> Any:
    """The language model as the original code makes it: transformers' class of it, tensors without prefix."""
    settings = json.loads((folder / "config.json").read_text())["llm_config"]
    settings = {k: v for k, v in settings.items() if v is not None}
    if settings["model_type"] == "phi3":
        settings["rope_scaling"] |= {"type": "longrope"}
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    model = AutoModelForCausalLM.from_config(config).eval()
    prefix = "language_model."
    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    return model


@pytest.mark.parametrize("name", makers.MEMBERS)
def test_member_of_the_series(name: str, tmp_path: Path) -> None:
    source = makers.member(name, tmp_path)
    model = VisionLanguageModel.from_folder(tmp_path)
    loaded = model.model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in source.state_dict().items())
    with torch.inference_mode():
        expected = language_alone(tmp_path)(torch.tensor([IDS])).logits[0]
    decoder = model.decoder(64)
    decoder.prefill(Prompt(IDS[:1]))
    decoder.extend(IDS[1:])
    assert float((decoder.last_logits - expected[1:]).abs().max()) < 1e-5
    assert float(expected.std()) > 0.1


@pytest.mark.parametrize("name", makers.MEMBERS)
def test_member_captions_an_image(name: str, tmp_path: Path) -> None:
    makers.member(name, tmp_path)
    model = VisionLanguageModel.from_folder(tmp_path)
    prompt = model.prepare(photograph(side=320), "What is it?")
    text = model.tokenizer.decode(prompt.input_ids)
    assert prompt.pixel_values is not None
    assert prompt.input_ids.count(model.tokenizer.token_id("<IMG_CONTEXT>")) == len(prompt.pixel_values) * 16
    assert text.replace("\n", "").endswith("What is it?assistant" if name != "4B" else "What is it?")
    decoder = model.decoder(len(prompt) + 20)
    first = decoder.prefill(prompt)
    one_by_one = [first]
    for _ in range(5):
        one_by_one += decoder.extend(one_by_one[-1:])
    decoder.keep(decoder.prompt_length)
    assert decoder.extend(one_by_one[:5]) == one_by_one[1:]


def test_checkpoint_in_transformers_layout(tmp_path: Path) -> None:
    source = makers.converted(tmp_path)
    model = VisionLanguageModel.from_folder(tmp_path)
    assert model.tiling.tile == 112
    assert model.tiling.max_tiles == 12
    assert model.eos_ids == {model.tokenizer.token_id("<|im_end|>")}
    prompt = model.prepare(photograph(), "What is it?")
    decoder = model.decoder(len(prompt) + 20)
    decoder.prefill(prompt)
    with torch.inference_mode():
        expected = source(input_ids=torch.tensor([prompt.input_ids]), pixel_values=prompt.pixel_values).logits[0, -1]
    assert float((decoder.last_logits[-1] - expected).abs().max()) < 1e-5


def test_transformers_layout_under_both_generations_of_names(tmp_path: Path) -> None:
    """The hub's are of transformers 4: older prefixes, `tie_word_embeddings` unsaid though the head is a tensor."""
    source = makers.converted(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("tie_word_embeddings", None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    older = load_file(tmp_path / "model.safetensors")
    newer = source.state_dict()
    assert {"language_model.lm_head.weight"} == {name for name in older if "lm_head" in name} != set(newer)
    for tensors in (older, newer):
        save_file(
            {name: tensor.clone() for name, tensor in tensors.items()}, tmp_path / "model.safetensors", {"format": "pt"}
        )
        loaded = VisionLanguageModel.from_folder(tmp_path).model
        assert type(loaded) is InternVLForConditionalGeneration
        state = loaded.state_dict()
        assert all(torch.equal(state[key], value) for key, value in source.state_dict().items())
        assert loaded.lm_head.weight is not loaded.model.language_model.embed_tokens.weight


def test_bad_checkpoint_in_transformers_layout(tmp_path: Path) -> None:
    makers.converted(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    lost = tensors.pop("language_model.model.layers.1.mlp.up_proj.weight")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks tensors: model\.language_model\.layers\.1\.mlp\.up_proj\.weight"):
        VisionLanguageModel.from_folder(tmp_path)
    tensors["language_model.model.layers.1.mlp.up_proj.weight"] = lost[:-1]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"misshapen tensors: model\.language_model\.layers\.1\.mlp\.up_proj\.weight"
    ):
        VisionLanguageModel.from_folder(tmp_path)


def test_same_tokenizer_in_two_formats(tmp_path: Path) -> None:
    """vocab.json with merges.txt, and the tokenizer.json that transformers writes of them: one hash: they pair."""
    from transformers import AutoTokenizer

    from aiflow_cli.models.tokenizer import load_tokenizer

    makers.byte_level_tokenizer(tmp_path / "old")
    AutoTokenizer.from_pretrained(tmp_path / "old").save_pretrained(tmp_path / "new")
    old, new = load_tokenizer(tmp_path / "old"), load_tokenizer(tmp_path / "new")
    text = "<|im_start|>a red bus, 大型<|im_end|>"
    assert old.sha256 == new.sha256
    assert old.encode(text) == new.encode(text)
    assert old.decode(old.encode(text)) == "a red bus, 大型"
    file = tmp_path / "new" / "tokenizer.json"
    whole = json.loads(file.read_text())
    pattern = {"type": "Split", "pattern": {"Regex": "((("}, "behavior": "Isolated", "invert": False}
    steps = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "?", "type_id": 0}}], "pair": []}
    faults: tuple[dict[str, Any], ...] = (
        {},
        whole | {"pre_tokenizer": pattern},
        whole | {"post_processor": steps | {"special_tokens": {}}},  # shows only when it is used
        whole | {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},  # a panic
    )
    for damaged in faults:
        file.write_text(json.dumps(damaged))
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_tokenizer(tmp_path / "new")
