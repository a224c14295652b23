"""Tiny checkpoints with random weights, of every language model of the series and in both layouts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import InternVLForConditionalGeneration

from aiflow_cli.models.internvl2 import build_config, save_checkpoint
from aiflow_cli.training.sizes import DRAFT, original_config

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
)
SIZE = dataclasses.replace(DRAFT, vision=(2, 32, 2, 48), language=(2, 48, 4, 64))
MEMBERS: dict[str, tuple[str, dict[str, Any]]] = {
    "1B": ("Hermes-2", {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_key_value_heads": 2}),
    "4B": (
        "phi3-chat",
        {
            "architectures": ["Phi3ForCausalLM"],
            "model_type": "phi3",
            "original_max_position_embeddings": 256,
            "rope_scaling": {"type": "su", "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], "long_factor": [2.0] * 6},
        },
    ),
    "40B, 76B": (
        "Hermes-2",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "num_key_value_heads": 1,
            "rope_theta": 500000.0,
        },
    ),
}
"""By members of the series: template and what their `llm_config` has that InternLM2's has not."""


def byte_level_tokenizer(folder: Path) -> int:
    """Write a Qwen2-style tokenizer (vocab.json, merges.txt, tokenizer_config.json); its size with the added tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["a red bus on the wet street heads left"] * 20, trainer)
    tokenizer.model.save(str(folder))
    pieces = tokenizer.get_vocab_size()
    flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": {str(pieces + i): {"content": token} | flags for i, token in enumerate(SPECIAL)},
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "added_tokens.json").write_text(json.dumps({t: pieces + i for i, t in enumerate(SPECIAL)}))
    return pieces + len(SPECIAL)


def random_model(config: dict[str, Any], image_token_id: int, seed: int = 0) -> InternVLForConditionalGeneration:
    """A model of a config.json with random weights, every one of which matters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = InternVLForConditionalGeneration(build_config(config, image_token_id)).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter.data, mean=float(parameter.ndim == 1), std=0.2)
    return model


def member(name: str, folder: Path) -> InternVLForConditionalGeneration:
    """Write a tiny checkpoint of a member of the series in the original layout; the model that is in it."""
    template, language = MEMBERS[name]
    size = byte_level_tokenizer(folder)
    config = original_config(SIZE, size + 5)  # spare rows, as Qwen2 has them
    config |= {"template": template, "dynamic_image_size": True, "use_thumbnail": True, "max_dynamic_patch": 4}
    config["llm_config"] |= language
    model = random_model(config, size - 1)
    save_checkpoint(model, config, folder, dtype="float32")
    return model


def converted(folder: Path) -> InternVLForConditionalGeneration:
    """Write a tiny checkpoint in transformers' own layout, as its `save_pretrained` does; the model that is in it."""
    size = byte_level_tokenizer(folder)
    config = original_config(SIZE, size)
    config["llm_config"] |= MEMBERS["1B"][1]
    model = random_model(config, size - 1)
    model.save_pretrained(folder)
    return model


def split(folder: Path, shards: int) -> None:
    """Cut a checkpoint's weights into so many files with an index."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    place = {
        name: f"model-{1 + i * shards // len(names):05}-of-{shards:05}.safetensors" for i, name in enumerate(names)
    }
    for file in sorted(set(place.values())):
        part = {name: tensors[name] for name in names if place[name] == file}
        save_file(part, folder / file, {"format": "pt"})
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))
