"""Bad checkpoints and pairs that are none: one clear line each, before a tensor is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.pair import check_pair
from aiflow_cli.models.vlm import VisionLanguageModel
from tests.conftest import TinyPair
from tests.models import fixtures

Damage = Callable[[Path], None]
WEIGHTS = "model.safetensors"


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def configure(change: Callable[[dict[str, Any]], None]) -> Damage:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return damage


def lose_tensor(folder: Path) -> None:
    name = "language_model.model.layers.1.attention.wqkv.weight"
    rewrite(folder, lambda tensors: tensors.pop(name))  # type: ignore[arg-type]


def add_tensor(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"language_model.model.layers.2.ffn_norm.weight": torch.ones(64)}))


def bend_tensor(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"mlp1.1.weight": torch.ones(64, 64)}))


def truncate(name: str, keep: float) -> Damage:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * keep)])

    return damage


def write(name: str, text: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).write_text(text)

    return damage


def remove(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def grow_vocabulary(folder: Path) -> None:
    """One token more than the embedding has rows."""
    added = json.loads((folder / "added_tokens.json").read_text())
    added["<one more>"] = max(added.values()) + 1
    (folder / "added_tokens.json").write_text(json.dumps(added))


BAD: dict[str, tuple[Damage, str]] = {
    "missing tensor": (
        lose_tensor,
        r"lacks tensors: language_model\.model\.layers\.1\.attention\.wqkv\.weight; fetch it again",
    ),
    "surplus tensor": (add_tensor, r"has surplus tensors: language_model\.model\.layers\.2\.ffn_norm\.weight;"),
    "misshapen tensor": (bend_tensor, r"misshapen tensors: mlp1\.1\.weight \[64, 64\] instead of \[64, "),
    "truncated weights": (truncate(WEIGHTS, 0.9), "truncated or damaged"),
    "empty weights": (truncate(WEIGHTS, 0.0), "truncated or damaged"),
    "weights that are none": (write(WEIGHTS, "<html>not found</html>"), "truncated or damaged"),
    "no weights": (remove(WEIGHTS), r"no \*\.safetensors"),
    "a shard is not there": (
        write(
            "model.safetensors.index.json",
            '{"metadata": {}, "weight_map": {"x": "model.safetensors", "y": "lost.safetensors"}}',
        ),
        "lacks lost.safetensors of 2 weight files",
    ),
    "index that is none": (write("model.safetensors.index.json", "{}"), "index.json cannot be read"),
    "no config": (remove("config.json"), "has no config.json"),
    "config cut short": (truncate("config.json", 0.5), "not valid JSON"),
    "config without object": (write("config.json", "[]"), "no JSON object"),
    "config of another model": (configure(lambda c: c.update(model_type="qwen2_vl")), "model of type 'qwen2_vl'"),
    "config without language model": (configure(lambda c: c.pop("llm_config")), "'llm_config' is missing"),
    "a language model that is none": (
        configure(lambda c: c.update(llm_config=[1])),
        "llm_config .* is no part of a",
    ),
    "config with a silly value": (configure(lambda c: c["llm_config"].update(hidden_size="wide")), "hidden_size"),
    "unknown architecture": (
        configure(lambda c: c["llm_config"].update(architectures=["MambaForCausalLM"])),
        "'MambaForCausalLM' is not supported: know InternLM2ForCausalLM",
    ),
    "older pixel shuffle": (
        configure(lambda c: c.update(ps_version="v1")),
        "ps_version 'v1' is not supported: it can be 'v2'",
    ),
    "no pixel shuffle version": (
        configure(lambda c: c.pop("ps_version")),
        "ps_version 'v1' is not supported: it can be 'v2'",
    ),
    "unknown template": (configure(lambda c: c.update(template="vicuna")), "template 'vicuna' is not known"),
    "unknown rope": (
        configure(lambda c: c["llm_config"].update(rope_scaling={"type": "yarn", "factor": 2.0})),
        "rope scaling 'yarn'",
    ),
    "tokenizer larger than the embedding": (grow_vocabulary, "they do not belong together"),
    "tokenizer smaller than the embedding": (
        configure(lambda c: c["llm_config"].update(vocab_size=10_000)),
        "the model's embedding 10000",
    ),
    "no tokenizer": (remove("tokenizer.model"), "has no tokenizer.model"),
    "tokenizer that is none": (truncate("tokenizer.model", 0.5), "not a sentencepiece model"),
    "added tokens cut short": (truncate("added_tokens.json", 0.5), "not valid JSON"),
    "added tokens without ids": (write("added_tokens.json", '{"<img>": null}'), "cannot be read"),
    "an added token without end": (write("added_tokens.json", '{"<img>": 1e999}'), "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_checkpoint(name: str, tiny_pair: TinyPair, tmp_path: Path) -> None:
    damage, reason = BAD[name]
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_pair.draft, folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=reason) as caught:
        VisionLanguageModel.from_folder(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_draft_and_target_with_different_tokenizers(tiny_pair: TinyPair) -> None:
    draft, target, stranger = (
        VisionLanguageModel.from_folder(folder) for folder in (tiny_pair.draft, tiny_pair.target, tiny_pair.stranger)
    )
    check_pair(draft, target)
    with pytest.raises(CheckpointError, match="different tokenizers: they are no pair"):
        check_pair(stranger, target)


@fixtures.needed
def test_a_lost_shard_of_three(tmp_path: Path) -> None:
    folder = tmp_path / "tiny-26b"
    shutil.copytree(fixtures.ROOT / "tiny-26b", folder, copy_function=shutil.copyfile)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks model-00002-of-00003\.safetensors of 3 weight files"):
        VisionLanguageModel.from_folder(folder)
