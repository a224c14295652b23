"""Rotary embedding is read in each form that libraries have written it, and refused where unknown or ambiguous."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.config import build_config
from aiflow_cli.models.dry_run import CONFIGS_FOLDER

Config = dict[str, Any]
THETA = 500000.0
PLAIN = {"rope_type": "default", "rope_theta": THETA}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": THETA, "factor": 2.0}
FORMS: dict[str, tuple[Config, Config]] = {
    "theta alone": ({"rope_theta": THETA}, PLAIN),
    "default scaling": ({"rope_theta": THETA, "rope_scaling": {"type": "default"}}, PLAIN),
    "default with a factor of one": (
        {"rope_theta": THETA, "rope_scaling": {"rope_type": "default", "factor": 1}},
        PLAIN,
    ),
    "theta within": ({"rope_parameters": {"rope_type": "default", "rope_theta": THETA}}, PLAIN),
    "theta alone within": ({"rope_parameters": {"rope_theta": THETA}}, PLAIN),
    "type": ({"rope_theta": THETA, "rope_scaling": {"type": "dynamic", "factor": 2}}, DYNAMIC),
    "rope_type": ({"rope_theta": THETA, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, DYNAMIC),
    "both": (
        {"rope_theta": THETA, "rope_scaling": {"type": "dynamic", "rope_type": "dynamic", "factor": 2.0}},
        DYNAMIC,
    ),
    "rope_parameters": ({"rope_parameters": DYNAMIC}, DYNAMIC),
    "all at once": (
        {"rope_theta": THETA, "rope_scaling": {"type": "dynamic", "factor": 2.0}, "rope_parameters": DYNAMIC},
        DYNAMIC,
    ),
    "linear": ({"rope_parameters": DYNAMIC | {"rope_type": "linear"}}, DYNAMIC | {"rope_type": "linear"}),
}


def with_rope(rope: Config, name: str = "InternVL2-2B") -> Config:
    config: Config = json.loads((CONFIGS_FOLDER / f"{name}.json").read_text())
    config["llm_config"] = {k: v for k, v in config["llm_config"].items() if not k.startswith("rope")} | rope
    return config


@pytest.mark.parametrize("form", FORMS)
def test_rope_in_each_form_that_is_written(form: str) -> None:
    written, expected = FORMS[form]
    assert build_config(with_rope(written)).text_config.rope_parameters == expected


LONG = {"short_factor": [1.0] * 48, "long_factor": [2.0] * 48}


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 1e4, "rope_scaling": LONG | {"type": "su"}},
        {"rope_theta": 1e4, "rope_scaling": LONG | {"type": "longrope"}},
        {"rope_parameters": LONG | {"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 1.0}},
        {
            "rope_parameters": LONG
            | {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 4096}
        },
    ],
)
def test_long_rope_in_each_form_that_is_written(rope: Config) -> None:
    found = build_config(with_rope(rope, "InternVL2-4B")).text_config.rope_parameters
    assert found == LONG | {
        **{"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 1.0},
        "original_max_position_embeddings": 4096,
    }


@pytest.mark.parametrize(
    ("rope", "reason"),
    [
        ({"rope_theta": 1e6, "rope_parameters": PLAIN}, "llm_config.rope_theta is 1000000.0 in one place and 500000.0"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": DYNAMIC}, "differ: only one"),
        ({"rope_scaling": {"type": "linear", "rope_type": "dynamic", "factor": 2.0}}, "a type and another rope_type"),
        ({"rope_parameters": {"full_attention": PLAIN}}, "rope_parameters.full_attention is not known here"),
        ({"rope_parameters": PLAIN | {"partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5 is not supported"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0, "alpha": 1000.0}}, "rope_scaling.alpha is not known here"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope scaling 'llama3' is not supported"),
        ({"rope_scaling": {"type": "dynamic"}}, "'factor' is missing"),
        ({"rope_theta": 0}, "out of range"),
        ({"rope_scaling": "dynamic"}, "has a value that no"),
    ],
)
def test_rope_that_is_not_known_or_says_two_things(rope: Config, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        build_config(with_rope(rope))
