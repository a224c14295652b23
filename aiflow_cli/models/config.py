"""config.json of a checkpoint -> transformers' InternVLConfig.

Two layouts: the original one (`InternVLChatModel`), field by field as the original's own code reads it (OpenGVLab/InternVL,
`internvl_chat`), where what transformers names otherwise is renamed and what it cannot do is refused; and transformers' own
(`InternVLForConditionalGeneration`, the `-hf` repositories of InternVL2.5, 3 and 3.5), which is taken as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import InternVLConfig, LlamaConfig, Phi3Config, PreTrainedConfig, Qwen2Config
from transformers.activations import ACT2FN

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.files import config_file, read_json
from aiflow_cli.models.keys import HF, LANGUAGES, ORIGINAL, VISION, Keys
from aiflow_cli.models.rope import read_rope

LANGUAGE_CONFIGS = {
    "InternLM2ForCausalLM": LlamaConfig,
    "LlamaForCausalLM": LlamaConfig,
    "Qwen2ForCausalLM": Qwen2Config,
    "Phi3ForCausalLM": Phi3Config,
}
"""Language models of the series; InternLM2 is Llama with its attention matrices packed (`models/conversion.py`)."""
MOST_LAYERS = 1000
"""More are a mistake, and building them would take for ever."""
MOST_TILES = 256
_SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "vocab_size", "max_position_embeddings")
_FULL = "full_attention"
_SAME_NAME = (
    *(
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "hidden_act",
    ),
    *("rms_norm_eps", "max_position_embeddings", "vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"),
)
_SAME_NAME_VISION = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps"),
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


def build_config(config: dict[str, Any], image_token_id: int | None = None) -> InternVLConfig:
    """The transformers configuration of a config.json; `image_token_id` is the tokenizer's, where that is known.

    Raises CheckpointError for what transformers' classes cannot compute, and for a key that is not known (`models/keys.py`).
    """
    try:
        built = _from_original(config, image_token_id or 0) if is_original(config) else _from_hf(config, image_token_id)
        _check_built(built)
    except KeyError as error:
        raise CheckpointError(f"{error} is missing: it is not an InternVL2 checkpoint, or it was cut short") from None
    except (StrictDataclassError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"it has a value that no InternVL2 checkpoint has ({reason})") from error
    return built


def _from_original(original: dict[str, Any], image_token_id: int) -> InternVLConfig:
    ORIGINAL.check({"ps_version": "v1"} | original)  # the original code's default, of InternVL 1
    vision, language = original["vision_config"], original["llm_config"]
    VISION.check(vision, "vision_config.")
    side = original.get("force_image_size") or vision["image_size"]
    ratio = original["downsample_ratio"]
    if vision["image_size"] != side:
        raise CheckpointError(
            f"force_image_size {side} is not vision_config.image_size, {vision['image_size']}: positions are not resized"
        )
    _check_tiles(original)
    if original.get("hidden_size") not in (None, language["hidden_size"]):
        raise CheckpointError(f"hidden_size {original['hidden_size']} is not llm_config's, {language['hidden_size']}")
    return InternVLConfig(
        vision_config=_vision(vision, side),
        text_config=_language(language),
        image_token_id=image_token_id,
        image_seq_length=round((side // vision["patch_size"]) ** 2 * ratio**2),
        downsample_ratio=ratio,
        projector_hidden_act="gelu",
        vision_feature_layer=original.get("select_layer", -1),
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )


def _check_tiles(original: dict[str, Any]) -> None:
    """Raise what says so unless a config.json tells how images are cut: what the original code assumes where it does not is no InternVL2's."""
    least, most = original["min_dynamic_patch"], original["max_dynamic_patch"]
    if not 1 <= least <= most <= MOST_TILES:
        raise CheckpointError(f"images of {least} to {most} tiles are out of range: 1 to {MOST_TILES}")
    for name in ("dynamic_image_size", "use_thumbnail"):
        if not isinstance(original[name], bool):
            raise CheckpointError(f"{name} {original[name]!r} is neither true nor false")


def _vision(vision: dict[str, Any], side: int) -> dict[str, Any]:
    return {name: vision[name] for name in _SAME_NAME_VISION} | {
        "norm_type": vision["norm_type"],
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
    LANGUAGES[architecture].check(language, "llm_config.")
    kind = LANGUAGE_CONFIGS[architecture]
    fields = {name: language[name] for name in _SAME_NAME if name in language}
    fields.setdefault("num_key_value_heads", language["num_attention_heads"])
    fields["tie_word_embeddings"] = False
    if kind is LlamaConfig:
        fields["attention_bias"] = language.get("bias") or language.get("attention_bias") or False
        fields["mlp_bias"] = language.get("mlp_bias") or False
    else:
        windows = ("sliding_window", "use_sliding_window", "max_window_layers", "layer_types")
        fields |= {name: language[name] for name in windows if name in language}
    if kind is Phi3Config:
        fields["original_max_position_embeddings"] = language["original_max_position_embeddings"]
    built = kind(**fields, rope_parameters=read_rope(language))
    head = built.hidden_size // built.num_attention_heads
    if language.get("head_dim") not in (None, head):
        raise CheckpointError(
            f"llm_config.head_dim {language['head_dim']} is not hidden_size / num_attention_heads, {head}"
        )
    return built


def _from_hf(config: dict[str, Any], image_token_id: int | None) -> InternVLConfig:
    HF.check(config)
    built = InternVLConfig(**config)
    for name in ("text_config", "vision_config"):
        part, kind = config[name], type(getattr(built, name))
        more = {"architectures", "model_type", "rope_theta", "rope_scaling", "partial_rotary_factor"}
        Keys(frozenset({field.name for field in fields(kind)} - _SHARED | more)).check(part, f"{name}.")
    if image_token_id is not None and built.image_token_id != image_token_id:
        raise CheckpointError(
            f"image_token_id {built.image_token_id} is not the tokenizer's id of <IMG_CONTEXT>, {image_token_id}"
        )
    return built


_SHARED = {field.name for field in fields(PreTrainedConfig)}
"""Keys that every class of transformers knows; they are told apart by `models/keys.py`."""


def _check_built(config: InternVLConfig) -> None:
    """Raise CheckpointError for what transformers would take and then fail on, or compute in a way that a cache cannot go back from."""
    text, vision = config.text_config, config.vision_config
    for name, value in (
        ("text", text.hidden_act),
        ("vision", vision.hidden_act),
        ("projector", config.projector_hidden_act),
    ):
        if value not in ACT2FN:
            raise CheckpointError(
                f"the {name} model's hidden_act {value!r} is not known: transformers has none of that name"
            )
    for part, names in ((text, _SIZES), (vision, _SIZES[:3])):
        if least := [name for name in names if getattr(part, name) < 1]:
            raise CheckpointError(f"{least[0]} {getattr(part, least[0])} is out of range: at least 1")
        if not 1 <= part.num_hidden_layers <= MOST_LAYERS:
            raise CheckpointError(f"num_hidden_layers {part.num_hidden_layers} is out of range: 1 to {MOST_LAYERS}")
    window = getattr(text, "sliding_window", None)
    slides = window is not None and window < text.max_position_embeddings
    if slides or set(getattr(text, "layer_types", None) or [_FULL]) != {_FULL}:
        raise CheckpointError(
            f"sliding-window attention (sliding_window {window}) is not supported: a cache could not go back"
        )
    layer = config.vision_feature_layer
    if not isinstance(layer, int) or not -vision.num_hidden_layers - 1 <= layer <= vision.num_hidden_layers:
        raise CheckpointError(
            f"the vision layer whose output is used, {layer!r}, is not one of {vision.num_hidden_layers}"
        )
    grid = [
        side / patch * config.downsample_ratio for side, patch in zip(vision.image_size, vision.patch_size, strict=True)
    ]
    if not all(count >= 1 and count == int(count) for count in grid) or not 0 < config.downsample_ratio <= 1:
        raise CheckpointError(
            f"tiles of {vision.image_size} in patches of {vision.patch_size} do not divide by {config.downsample_ratio}"
        )
    if int(grid[0]) * int(grid[1]) != config.image_seq_length:
        raise CheckpointError(
            f"image_seq_length {config.image_seq_length} is not what a tile gives, {int(grid[0]) * int(grid[1])}"
        )
