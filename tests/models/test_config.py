"""Every key of a config.json is read or refused: none that could change what is computed is passed over."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.config import LANGUAGE_CONFIGS, build_config
from aiflow_cli.models.conversion import model_class
from aiflow_cli.models.dry_run import CONFIGS_FOLDER
from aiflow_cli.models.internvl2 import meta_model
from aiflow_cli.models.keys import HF, LANGUAGES, NO_MATTER, ORIGINAL, VISION
from aiflow_cli.models.preprocessing import Tiling
from aiflow_cli.models.prompt import find_template
from aiflow_cli.training.sizes import original_config
from tests.models import fixtures, makers

Config = dict[str, Any]
RELEASED = {path.stem: json.loads(path.read_text()) for path in sorted(CONFIGS_FOLDER.glob("*.json"))}
BY_LANGUAGE = {config["llm_config"]["architectures"][0]: name for name, config in RELEASED.items()}
PASSED_OVER = " ".join(NO_MATTER.values()).split()


def meaning(config: Config) -> tuple[Any, ...]:
    """All that is made of a config.json."""
    return build_config(config).to_dict(), Tiling.from_config(config), find_template(config)


def set_in(config: Config, part: str | None, key: str, value: Any) -> Config:
    changed = copy.deepcopy(config)
    (changed[part] if part else changed)[key] = value
    return changed


def other(value: Any) -> Any:
    """Another value than this one."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 3
        case str():
            return value + "-other"
        case list() | dict():
            return [*value, "other"]
        case _:
            return 3


def counts(config: Config, part: str | None, key: str) -> bool:
    """Whether another value of a key changes what is made, or is refused."""
    value = (config[part] if part else config).get(key)
    try:
        return meaning(set_in(config, part, key, other(value))) != meaning(config)
    except CheckpointError:
        return True


PARTS: list[tuple[str | None, str]] = [(None, key) for key in ORIGINAL.read | set(ORIGINAL.only)]
PARTS += [("vision_config", key) for key in VISION.read | set(VISION.only)]


@pytest.mark.parametrize(("part", "key"), sorted(PARTS, key=str))
def test_each_key_that_is_read_counts(part: str | None, key: str) -> None:
    assert counts(RELEASED["InternVL2-2B"], part, key)


@pytest.mark.parametrize("language", LANGUAGE_CONFIGS)
def test_each_key_of_each_language_model_counts(language: str) -> None:
    config = RELEASED[BY_LANGUAGE[language]]
    known = LANGUAGES[language].read | set(LANGUAGES[language].only)
    idle = {"sliding_window"} if language == "Qwen2ForCausalLM" else set()  # unless `use_sliding_window`
    assert {key for key in known if not counts(config, "llm_config", key)} == idle


def hf(tmp_path: Path) -> Config:
    makers.converted(tmp_path)
    config: Config = json.loads((tmp_path / "config.json").read_text())
    return config


def test_each_key_of_transformers_layout_counts(tmp_path: Path) -> None:
    config = hf(tmp_path)
    keys = (HF.read | set(HF.only)) - {"architectures", "tie_word_embeddings"}  # a name; and what the tensors decide
    assert [key for key in sorted(keys) if not counts(config, None, key)] == []
    text = (
        "hidden_size",
        "rope_parameters",
        "rms_norm_eps",
        "hidden_act",
        "use_sliding_window",
        "layer_types",
        "model_type",
    )
    assert [key for key in text if not counts(config, "text_config", key)] == []
    for part in (None, "text_config", "vision_config"):
        with pytest.raises(CheckpointError, match=r"logit_scale is not known here and could change"):
            build_config(set_in(config, part, "logit_scale", 2.0))


unknown = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)


@settings(max_examples=60)
@given(key=unknown, part=st.sampled_from([None, "llm_config", "vision_config"]), value=st.integers() | st.booleans())
def test_a_key_that_is_not_known_is_refused_by_name(key: str, part: str | None, value: Any) -> None:
    config = RELEASED["InternVL2-2B"]
    known = ORIGINAL if part is None else VISION if part == "vision_config" else LANGUAGES["InternLM2ForCausalLM"]
    if key in known.read or key in known.only or key in PASSED_OVER:
        return
    name = f"{part}.{key}" if part else key
    with pytest.raises(CheckpointError, match=rf"^{name} is not known here and could change what the model computes"):
        build_config(set_in(config, part, key, value))
    build_config(set_in(config, part, key, None))  # not set


SILLY: tuple[Any, ...] = (None, 0, -1, 7, 0.5, float("nan"), 1e300, 2**70, "x", [], [1], {"a": 1}, True)
small = original_config(makers.SIZE, 120)
places = st.sampled_from(
    [(part, key) for part in (None, "llm_config", "vision_config") for key in (small[part] if part else small)]
)


@settings(max_examples=150)
@given(place=places, value=st.sampled_from(SILLY))
def test_a_silly_value_is_refused_in_one_line_or_builds(place: tuple[str | None, str], value: Any) -> None:
    config = set_in(small, *place, value)
    with contextlib.suppress(CheckpointError):
        built, _, _ = build_config(config), find_template(config), Tiling.from_config(config)
        meta_model(model_class(config), built)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("llm_config", "tie_word_embeddings", True),
        ("llm_config", "hidden_act", "swoosh"),
        ("llm_config", "bias", "yes"),
        ("llm_config", "num_hidden_layers", 10**9),
        ("llm_config", "partial_rotary_factor", 0.5),
        ("llm_config", "qk_layernorm", True),
        ("llm_config", "logit_scale", 0.5),
        ("llm_config", "num_key_value_heads", 3),
        ("vision_config", "norm_type", "batch_norm"),
        ("vision_config", "num_channels", 1),
        ("vision_config", "patch_size", 13),
        ("vision_config", "use_moe", True),
        ("vision_config", "image_size", 224),
        (None, "max_dynamic_patch", 10**9),
        (None, "min_dynamic_patch", 0),
        (None, "dynamic_image_size", "yes"),
        (None, "downsample_ratio", 0.3),
        (None, "downsample_ratio", 0),
        (None, "select_layer", 99),
        (None, "use_llm_lora", 16),
        (None, "system_message", "You are a pirate."),
        (None, "quantization_config", {"quant_method": "awq"}),
        (None, "transformers_weights", "other.safetensors"),
    ],
)
def test_what_cannot_be_computed_is_refused(part: str | None, key: str, value: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        build_config(set_in(RELEASED["InternVL2-2B"], part, key, value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "key"),
    [
        *((None, key) for key in ("dynamic_image_size", "use_thumbnail", "min_dynamic_patch", "max_dynamic_patch")),
        *((None, key) for key in ("template", "ps_version", "downsample_ratio")),
        *(("vision_config", key) for key in ("norm_type", "qkv_bias", "qk_normalization", "layer_norm_eps")),
    ],
)
def test_what_libraries_assume_differently_must_be_said(part: str | None, key: str) -> None:
    config = copy.deepcopy(RELEASED["InternVL2-2B"])
    del (config[part] if part else config)[key]
    with pytest.raises(CheckpointError):
        meaning(config)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("InternVL2-1B", {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 2}),
        ("InternVL2-1B", {"layer_types": ["sliding_attention"] * 24}),
        ("InternVL2-4B", {"sliding_window": 2047}),
    ],
)
def test_a_sliding_window_in_use_is_refused(name: str, changes: Config) -> None:
    config = copy.deepcopy(RELEASED[name])
    config["llm_config"] |= changes
    with pytest.raises(CheckpointError, match="sliding-window attention"):
        build_config(config)


def test_a_window_that_is_not_in_use_is_no_matter() -> None:
    qwen, phi = (copy.deepcopy(RELEASED[name]) for name in ("InternVL2-1B", "InternVL2-4B"))
    qwen["llm_config"] |= {"use_sliding_window": False, "sliding_window": 32768, "max_window_layers": 24}
    phi["llm_config"] |= {"sliding_window": 262144}
    for config in (qwen, phi):
        build_config(config)


INTERNVL3: Config = {
    "hidden_size": 896,
    **{"image_fold": None, "output_attentions": False, "pad2square": False, "system_message": None},
    **{"tie_word_embeddings": False, "transformers_version": None, "use_backbone_lora": 0, "use_llm_lora": 0},
}
INTERNVL3_VISION: Config = {
    **{"capacity_factor": 1.2, "eval_capacity_factor": 1.4, "laux_allreduce": "all_nodes", "moe_coeff_ratio": 0.5},
    **{"moe_intermediate_size": 768, "moe_output_scale": 4.0, "noisy_gate_policy": "RSample_before", "num_experts": 8},
    **{"num_routed_experts": 4, "num_shared_experts": 4, "shared_expert_intermediate_size": 3072, "use_moe": False},
    **{"use_residual": True, "use_rts": False, "use_weighted_residual": False, "initializer_range": 1e-10},
}
INTERNVL3_LANGUAGE: Config = {
    **{"layer_types": ["full_attention"] * 24, "max_window_layers": 70, "moe_config": None, "use_bfloat16": True},
    **{"sliding_window": None, "use_sliding_window": False, "attention_dropout": 0.0, "use_cache": False},
    "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"},
}


def test_a_configuration_as_the_series_wrote_it_later() -> None:
    """The keys of InternVL3's own config.json."""
    config = copy.deepcopy(RELEASED["InternVL2-1B"]) | INTERNVL3 | {"template": "internvl2_5"}
    config["vision_config"] |= INTERNVL3_VISION
    config["llm_config"] |= INTERNVL3_LANGUAGE
    assert build_config(config).text_config.rope_parameters["rope_type"] == "dynamic"


def test_every_shipped_configuration_is_read() -> None:
    shipped = [json.loads(path.read_text()) for path in (CONFIGS_FOLDER.parent).glob("small-*/config.json")]
    assert len(shipped) == 3
    for config in (*RELEASED.values(), *shipped):
        meaning(config)
        newer = {key.replace("torch_dtype", "dtype"): value for key, value in config.items()}
        assert meaning(newer) == meaning(config)


@fixtures.needed
@pytest.mark.parametrize("name", fixtures.MODELS)
def test_the_fixtures_configurations_are_read(name: str) -> None:
    meaning(json.loads((fixtures.ROOT / name / "config.json").read_text()))
