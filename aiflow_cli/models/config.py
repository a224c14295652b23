"""config.json of a checkpoint -> transformers' InternVLConfig.

Two layouts: the original one (`InternVLChatModel`), field by field as the original's own code reads it
(OpenGVLab/InternVL, `internvl_chat`), where what transformers names otherwise is renamed and what it cannot do is
refused; and transformers' own (`InternVLForConditionalGeneration`, the `-hf` repositories of InternVL2.5, 3 and 3.5).
"""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import InternVLConfig, LlamaConfig, Phi3Config, PreTrainedConfig, Qwen2Config
from transformers.activations import ACT2FN

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.files import config_file, read_json
from aiflow_cli.models.keys import HF, LANGUAGES, ORIGINAL, ROPE, VISION, Keys
from aiflow_cli.text import one_line

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
_LARGEST = 10**9
_SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
_OTHER_NAME = {"bias", "head_dim", "rope_parameters", "rope_scaling", "rope_theta"}
"""Keys of a language model that transformers has elsewhere, or not at all; the others have the same name there."""
_FULL = "full_attention"
_ORIGINAL_LENGTH = "original_max_position_embeddings"
_SHARED = {field.name for field in fields(PreTrainedConfig)}
"""Keys that every class of transformers knows; they are told apart by `models/keys.py`."""


def read_config(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.json; raises CheckpointError if it is absent, no JSON, or of another kind of model."""
    path = config_file(folder)
    config = read_json(path)
    kind = config.get("model_type")
    known = kind in ("internvl_chat", "internvl")
    _require(known, f"{path} is of a model of type {kind!r}: know internvl_chat (original InternVL) and internvl")
    for name in ("llm_config", "text_config", "vision_config"):
        _require(isinstance(config.get(name, {}), dict), f"{path}: {name} {config.get(name)!r} is no part of a model")
    return config


def is_original(config: dict[str, Any]) -> bool:
    """Whether a config.json is of the original layout, not of transformers' own."""
    return config.get("model_type") != "internvl"


def language_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config.json about the language model."""
    return config.get("llm_config" if is_original(config) else "text_config") or {}


def build_config(config: dict[str, Any], image_token_id: int | None = None) -> InternVLConfig:
    """The transformers configuration of a config.json; `image_token_id` is the tokenizer's, where that is known.

    Raises CheckpointError for what transformers' classes cannot compute, and for an unknown key (`models/keys.py`).
    """
    try:
        built = _from_original(config, image_token_id or 0) if is_original(config) else _from_hf(config, image_token_id)
        _check_built(built)
    except KeyError as error:
        raise CheckpointError(f"{error} is missing: it is not an InternVL2 checkpoint, or it was cut short") from None
    except (StrictDataclassError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"it has a value that no InternVL2 checkpoint has ({one_line(error)})") from error
    return built


def _from_original(original: dict[str, Any], image_token_id: int) -> InternVLConfig:
    ORIGINAL.check({"ps_version": "v1"} | original)  # the original code's default, of InternVL 1
    vision, language = original["vision_config"], original["llm_config"]
    VISION.check(vision, "vision_config.")
    side, given = vision["image_size"], original.get("force_image_size") or vision["image_size"]
    said = f"force_image_size {given} is not vision_config.image_size, {side}"
    _require(given == side, f"{said}: positions are not resized")
    # How images are cut must be said: the original code's defaults are not InternVL2's.
    least, most = original["min_dynamic_patch"], original["max_dynamic_patch"]
    _require(1 <= least <= most <= MOST_TILES, f"images of {least} to {most} tiles are out of range: 1 to {MOST_TILES}")
    for name in ("dynamic_image_size", "use_thumbnail"):
        _require(isinstance(original[name], bool), f"{name} {original[name]!r} is neither true nor false")
    width, expected = original.get("hidden_size"), language["hidden_size"]
    _require(width in (None, expected), f"hidden_size {width} is not llm_config's, {expected}")
    ratio = original["downsample_ratio"]
    return InternVLConfig(
        vision_config=_vision(vision),
        text_config=_language(language),
        image_token_id=image_token_id,
        image_seq_length=round((side // vision["patch_size"]) ** 2 * ratio**2),
        downsample_ratio=ratio,
        projector_hidden_act="gelu",
        vision_feature_layer=original.get("select_layer", -1),
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CheckpointError(otherwise)


def _vision(vision: dict[str, Any]) -> dict[str, Any]:
    same = (*_SIZES, "hidden_act", "layer_norm_eps", "norm_type")
    return {name: vision[name] for name in same} | {
        "image_size": [vision["image_size"]] * 2,
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
    kind = LANGUAGE_CONFIGS.get(architecture)
    if kind is None:
        raise CheckpointError(f"language model {architecture!r} is not supported: know {', '.join(LANGUAGE_CONFIGS)}")
    keys = LANGUAGES[architecture]
    keys.check(language, "llm_config.")
    same = {*keys.read, "bos_token_id", "eos_token_id", "pad_token_id"} - _OTHER_NAME
    options = {"num_key_value_heads": language["num_attention_heads"]} | {k: language[k] for k in same & set(language)}
    if kind is LlamaConfig:
        options["attention_bias"] = language.get("bias") or language.get("attention_bias") or False
        options["mlp_bias"] = language.get("mlp_bias") or False
    elif kind is Phi3Config:
        options[_ORIGINAL_LENGTH] = language[_ORIGINAL_LENGTH]  # transformers would assume one
    built = kind(**options, tie_word_embeddings=False, rope_parameters=_rope(language))
    given, head = language.get("head_dim"), built.hidden_size // built.num_attention_heads
    _require(given in (None, head), f"llm_config.head_dim {given} is not hidden_size / num_attention_heads, {head}")
    return built


def _rope(language: dict[str, Any]) -> dict[str, Any]:
    """transformers' `rope_parameters`: what it writes of rotary embedding since version 5, all in one place.

    The original configurations have `rope_theta` beside `rope_scaling`, whose kind is its `type`, or later its
    `rope_type`. Both forms may be there, if they say the same.
    """
    places = [name for name in ("rope_scaling", "rope_parameters") if language.get(name)]
    found = [_standard_rope(language[name], f"llm_config.{name}", language) for name in places]
    if len(found) == 2 and found[0] != found[1]:
        raise CheckpointError("llm_config.rope_scaling and rope_parameters differ: only one of them can be meant")
    return found[0] if found else _standard_rope({}, "llm_config", language)


def _standard_rope(written: dict[str, Any], where: str, language: dict[str, Any]) -> dict[str, Any]:
    named: set[Any] = {written.get(name) for name in ("rope_type", "type")} - {None} or {"default"}
    kind, *others = {"longrope" if kind == "su" else kind for kind in named}  # its older name
    _require(not others, f"{where} has a type and another rope_type: only one of them can be meant")
    _require(kind in ROPE, f"rope scaling {kind!r} is not supported: know {', '.join(ROPE)}, su")
    ROPE[kind].check(written, f"{where}.")
    numbers = {"rope_theta": _agreed("rope_theta", written, language, 10000.0)}
    if "factor" in ROPE[kind].read:
        numbers["factor"] = written["factor"]
    for name, value in numbers.items():
        if not 0 < float(value) < math.inf:
            raise CheckpointError(f"llm_config.{name} {value!r} is out of range: it is above 0")
    rope: dict[str, Any] = {"rope_type": kind} | {name: float(value) for name, value in numbers.items()}
    if kind == "longrope":
        rope |= {name: written[name] for name in ("short_factor", "long_factor")}
        rope[_ORIGINAL_LENGTH] = _agreed(_ORIGINAL_LENGTH, written, language)
    return rope


def _agreed(name: str, inside: dict[str, Any], beside: dict[str, Any], default: Any = None) -> Any:
    """What a key says that may be written in two places."""
    values = [part[name] for part in (inside, beside) if part.get(name) is not None]
    if len(values) == 2 and values[0] != values[1]:
        raise CheckpointError(
            f"llm_config.{name} is {values[1]} in one place and {values[0]} in another: only one can be meant"
        )
    if not values and default is None:
        raise KeyError(name)
    return values[0] if values else default


def _from_hf(config: dict[str, Any], image_token_id: int | None) -> InternVLConfig:
    HF.check(config)
    built = InternVLConfig(**config)
    more = {"architectures", "model_type", "rope_theta", "rope_scaling", "partial_rotary_factor"}
    for name in ("text_config", "vision_config"):
        known = {field.name for field in fields(type(getattr(built, name)))}
        Keys(frozenset(known - _SHARED | more), {}).check(config[name], f"{name}.")
    said = built.image_token_id
    same = image_token_id in (None, said)
    _require(same, f"image_token_id {said} is not the tokenizer's id of <IMG_CONTEXT>, {image_token_id}")
    return built


def _check_built(config: InternVLConfig) -> None:
    """Raise CheckpointError for what transformers would take and then fail on, or what a cache cannot go back from."""
    text, vision = config.text_config, config.vision_config
    acts = {"text": text.hidden_act, "vision": vision.hidden_act, "projector": config.projector_hidden_act}
    for name, value in acts.items():
        _require(value in ACT2FN, f"the {name} model's hidden_act {value!r} is not known to transformers")
    for part, names in ((text, (*_SIZES, "vocab_size", "max_position_embeddings")), (vision, _SIZES)):
        for name in names:
            value, most = getattr(part, name), MOST_LAYERS if name == "num_hidden_layers" else _LARGEST
            _require(1 <= value <= most, f"{name} {value} is out of range: 1 to {most}")
    shared, heads = getattr(text, "num_key_value_heads", text.num_attention_heads), text.num_attention_heads
    _require(heads % shared == 0, f"num_key_value_heads {shared} do not divide num_attention_heads {heads}")
    window = getattr(text, "sliding_window", None)
    slides = window is not None and window < text.max_position_embeddings
    _require(
        not slides and set(getattr(text, "layer_types", None) or [_FULL]) == {_FULL},
        f"sliding-window attention (sliding_window {window}) is not supported: a cache could not go back",
    )
    _check_image(config)


def _check_image(config: InternVLConfig) -> None:
    """Raise CheckpointError unless a tile becomes a whole number of positions, of a layer that there is."""
    vision, ratio, layer = config.vision_config, config.downsample_ratio, config.vision_feature_layer
    count = vision.num_hidden_layers
    there = isinstance(layer, int) and -count - 1 <= layer <= count
    _require(there, f"the vision layer whose output is used, {layer!r}, is not one of {count}")
    grid = [side / patch * ratio for side, patch in zip(vision.image_size, vision.patch_size, strict=True)]
    divides = all(side >= 1 and side == int(side) for side in grid) and 0 < ratio <= 1
    _require(divides, f"tiles of {vision.image_size} in patches of {vision.patch_size} do not divide by {ratio}")
    said, gives = config.image_seq_length, int(grid[0]) * int(grid[1])
    _require(said == gives, f"image_seq_length {said} is not what a tile gives, {gives}")
