"""config.json of a checkpoint -> transformers' InternVLConfig.

Two layouts: the original one (`InternVLChatModel`), field by field as the original's own code reads it (OpenGVLab/InternVL,
`internvl_chat`), where what transformers names otherwise is renamed and what it cannot do is refused; and transformers' own
(`InternVLForConditionalGeneration`, the `-hf` repositories of InternVL2.5, 3 and 3.5), which is taken as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import InternVLConfig, LlamaConfig, Phi3Config, Qwen2Config

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.files import config_file, read_json

LANGUAGE_CONFIGS = {
    "InternLM2ForCausalLM": LlamaConfig,
    "LlamaForCausalLM": LlamaConfig,
    "Qwen2ForCausalLM": Qwen2Config,
    "Phi3ForCausalLM": Phi3Config,
}
"""Language models of the series; InternLM2 is Llama with its attention matrices packed (`models/conversion.py`)."""

_SAME_NAME = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "rms_norm_eps",
    "max_position_embeddings",
    "vocab_size",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)


def read_config(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.json; raises CheckpointError if it is absent, is not JSON, or is of a model of another kind."""
    path = config_file(folder)
    config = read_json(path)
    kind = config.get("model_type")
    if kind not in ("internvl_chat", "internvl"):
        raise CheckpointError(
            f"{path} is of a model of type {kind!r}: know internvl_chat (original InternVL) and internvl"
        )
    return config


@contextlib.contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Have a CheckpointError about a configuration say whose it is."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error.__cause__


def is_original(config: dict[str, Any]) -> bool:
    """Whether a config.json is of the original layout, not of transformers' own."""
    return config.get("model_type") != "internvl"


def language_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config.json about the language model."""
    found: dict[str, Any] = config.get("llm_config" if is_original(config) else "text_config") or {}
    return found


def language_name(config: dict[str, Any]) -> str:
    """The class of the language model, or its type; "?" if a config.json does not say."""
    language = language_config(config)
    return str((language.get("architectures") or [language.get("model_type", "?")])[0])


def build_config(config: dict[str, Any], image_token_id: int = 0) -> InternVLConfig:
    """The transformers configuration of a config.json. Raises CheckpointError for what transformers' classes cannot compute."""
    try:
        return _from_original(config, image_token_id) if is_original(config) else InternVLConfig(**config)
    except KeyError as error:
        raise CheckpointError(f"{error} is missing: it is not an InternVL2 checkpoint, or it was cut short") from None
    except (StrictDataclassError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"it has a value that no InternVL2 checkpoint has ({reason})") from error


def _from_original(original: dict[str, Any], image_token_id: int) -> InternVLConfig:
    if original.get("ps_version", "v1") != "v2":
        raise CheckpointError(
            f"pixel shuffle version {original.get('ps_version', 'v1')!r} is not supported: InternVL2 uses 'v2'"
        )
    vision = original["vision_config"]
    side = original.get("force_image_size") or vision["image_size"]
    ratio = original["downsample_ratio"]
    return InternVLConfig(
        vision_config=_vision(vision, side),
        text_config=_language(original["llm_config"]),
        image_token_id=image_token_id,
        image_seq_length=round((side // vision["patch_size"]) ** 2 * ratio**2),
        downsample_ratio=ratio,
        projector_hidden_act="gelu",
        vision_feature_layer=original.get("select_layer", -1),
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )


def _vision(vision: dict[str, Any], side: int) -> dict[str, Any]:
    same = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "hidden_act",
        "layer_norm_eps",
    )
    return {name: vision[name] for name in same} | {
        "norm_type": vision.get("norm_type", "layer_norm"),
        "image_size": [side, side],
        "patch_size": [vision["patch_size"]] * 2,
        "num_channels": vision.get("num_channels", 3),
        "attention_bias": vision["qkv_bias"],
        "use_qk_norm": vision["qk_normalization"],
        "layer_scale_init_value": vision.get("initializer_factor", 0.1),
        "use_mean_pooling": True,
        "use_absolute_position_embeddings": True,
        "use_mask_token": False,
    }


def _language(language: dict[str, Any]) -> Any:
    architecture = language["architectures"][0]
    if architecture not in LANGUAGE_CONFIGS:
        raise CheckpointError(f"language model {architecture!r} is not supported: know {', '.join(LANGUAGE_CONFIGS)}")
    kind = LANGUAGE_CONFIGS[architecture]
    fields = {name: language[name] for name in _SAME_NAME if name in language}
    fields.setdefault("num_key_value_heads", language["num_attention_heads"])
    fields["tie_word_embeddings"] = False
    if kind is LlamaConfig:
        fields |= {
            "attention_bias": bool(language.get("bias", language.get("attention_bias", False))),
            "mlp_bias": False,
        }
    if kind is Phi3Config:
        fields["original_max_position_embeddings"] = language["original_max_position_embeddings"]
    return kind(**fields, rope_parameters=_rope(language))


def _rope(language: dict[str, Any]) -> dict[str, Any]:
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": float(language.get("rope_theta", 10000.0))}
    scaling = language.get("rope_scaling")
    if not scaling:
        return rope
    kind = scaling.get("type", scaling.get("rope_type"))
    if kind == "su":
        names = ("short_factor", "long_factor")
        original_length = {"original_max_position_embeddings": language["original_max_position_embeddings"]}
        return rope | {"rope_type": "longrope"} | {name: scaling[name] for name in names} | original_length
    if kind not in ("dynamic", "linear"):
        raise CheckpointError(f"rope scaling {kind!r} is not supported: know dynamic, linear and su")
    return rope | {"rope_type": kind, "factor": float(scaling["factor"])}
