"""Rotary embedding of a language model, in each form that libraries have written it.

The original configurations have `rope_theta` beside `rope_scaling`, whose kind is its `type`, or later its `rope_type`; transformers 5 writes
all of it into `rope_parameters`. Both may be there, if they say the same.
"""

from __future__ import annotations

import math
from typing import Any

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.keys import keys

_KIND = ("rope_type", "type")
_LONG = "longrope"
_KNOWN = {
    "default": keys("rope_type type rope_theta", {"factor": (1.0,), "partial_rotary_factor": (1.0,)}),
    "linear": keys("rope_type type rope_theta factor", {"partial_rotary_factor": (1.0,)}),
    "dynamic": keys("rope_type type rope_theta factor", {"partial_rotary_factor": (1.0,)}),
    _LONG: keys(
        "rope_type type rope_theta short_factor long_factor original_max_position_embeddings",
        {"partial_rotary_factor": (1.0,)},
    ),
}
_SAME = {"su": _LONG}
"""Older names -> newer ones."""


def read_rope(language: dict[str, Any]) -> dict[str, Any]:
    """transformers' `rope_parameters` of the part of a config.json about the language model; raises CheckpointError for what is not known."""
    length = language.get("original_max_position_embeddings")
    theta = language.get("rope_theta")
    found = []
    for name in ("rope_scaling", "rope_parameters"):
        if language.get(name):
            found.append(_standard(language[name], f"llm_config.{name}", theta, length))
    if len(found) == 2 and found[0] != found[1]:
        raise CheckpointError("llm_config.rope_scaling and rope_parameters differ: only one of them can be meant")
    return found[0] if found else _standard({}, "llm_config", theta, length)


def _standard(written: dict[str, Any], where: str, theta: Any, length: Any) -> dict[str, Any]:
    kinds = {_SAME.get(written[name], written[name]) for name in _KIND if written.get(name) is not None} or {"default"}
    kind = kinds.pop()
    if kinds or kind not in _KNOWN:
        raise CheckpointError(f"rope scaling {kind!r} is not supported: know {', '.join((*_KNOWN, *_SAME))}")
    _KNOWN[kind].check(written, f"{where}.")
    base = _agreed("rope_theta", written.get("rope_theta"), theta, 10000.0)
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": _above_zero("rope_theta", base)}
    if kind in ("linear", "dynamic"):
        return rope | {"factor": _above_zero("factor", written["factor"])}
    if kind == _LONG:
        short, long = written["short_factor"], written["long_factor"]
        name = "original_max_position_embeddings"
        return rope | {"short_factor": short, "long_factor": long, name: _agreed(name, written.get(name), length, None)}
    return rope


def _above_zero(name: str, value: Any) -> float:
    if not 0 < float(value) < math.inf:
        raise CheckpointError(f"llm_config.{name} {value!r} is out of range: it is above 0")
    return float(value)


def _agreed(name: str, inside: Any, beside: Any, default: Any) -> Any:
    """What a key says that may be written in two places."""
    values = [value for value in (inside, beside) if value is not None]
    if len(values) == 2 and values[0] != values[1]:
        raise CheckpointError(
            f"llm_config.{name} is {values[1]} in one place and {values[0]} in another: only one can be meant"
        )
    if not values and default is None:
        raise KeyError(name)
    return values[0] if values else default
