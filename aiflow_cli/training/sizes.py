"""Sizes of the small pair's three models, and their config.json in the layout of InternVL2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TEMPLATE = "aiflow-small"
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


def original_config(size: Size, vocab_size: int) -> dict[str, Any]:
    """config.json of a model of this size, with the fields of OpenGVLab/InternVL2-2B."""
    layers, width, heads, ffn = size.vision
    lm_layers, lm_width, lm_heads, lm_ffn = size.language
    return {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "template": TEMPLATE,
        "downsample_ratio": 0.5,
        "dynamic_image_size": False,
        "force_image_size": size.view,
        "max_dynamic_patch": 1,
        "min_dynamic_patch": 1,
        "use_thumbnail": False,
        "ps_version": "v2",
        "select_layer": -1,
        "torch_dtype": "bfloat16",
        "llm_config": {
            "architectures": ["InternLM2ForCausalLM"],
            "model_type": "internlm2",
            "hidden_size": lm_width,
            "intermediate_size": lm_ffn,
            "num_hidden_layers": lm_layers,
            "num_attention_heads": lm_heads,
            "num_key_value_heads": lm_heads,
            "hidden_act": "silu",
            "bias": False,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "rope_scaling": None,
            "max_position_embeddings": 512,
            "vocab_size": vocab_size,
            "bos_token_id": BOS_ID,
            "eos_token_id": EOS_ID,
            "pad_token_id": EOS_ID,
            "tie_word_embeddings": False,
        },
        "vision_config": {
            "architectures": ["InternVisionModel"],
            "model_type": "intern_vit_6b",
            "hidden_size": width,
            "intermediate_size": ffn,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_channels": 3,
            "image_size": size.view,
            "patch_size": size.patch,
            "norm_type": "layer_norm",
            "layer_norm_eps": 1e-6,
            "hidden_act": "gelu",
            "qkv_bias": True,
            "qk_normalization": False,
            "initializer_factor": 1.0,
            "initializer_range": 0.02,
            "drop_path_rate": 0.0,
            "attention_dropout": 0.0,
            "dropout": 0.0,
            "use_flash_attn": False,
        },
    }
