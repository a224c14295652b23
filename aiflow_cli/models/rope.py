"""Rotary embedding of a language model, in each form that libraries have written it.

The original configurations have `rope_theta` beside `rope_scaling`, whose kind is its `type`, or later its `rope_type`;
transformers 5 writes all of it into `rope_parameters`. Both may be there, if they say the same.
"""

from __future__ import annotations

import math
from typing import Any

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.keys import Only, keys

_ORIGINAL_LENGTH = "original_max_position_embeddings"
_WHOLE: Only = {"partial_rotary_factor": (1.0,)}
_SCALED = keys("rope_type type rope_theta factor", _WHOLE)
_KNOWN = {
    "default": keys("rope_type type rope_theta", _WHOLE | {"factor": (1.0,)}),
    "linear": _SCALED,
    "dynamic": _SCALED,
    "longrope": keys(f"rope_type type rope_theta short_factor long_factor {_ORIGINAL_LENGTH}", _WHOLE),
}


def read_rope(language: dict[str, Any]) -> dict[str, Any]:
    """transformers' `rope_parameters` of a config.json's language model; raises CheckpointError for other forms."""
    places = [name for name in ("rope_scaling", "rope_parameters") if language.get(name)]
    found = [_standard(language[name], f"llm_config.{name}", language) for name in places]
    if len(found) == 2 and found[0] != found[1]:
        raise CheckpointError("llm_config.rope_scaling and rope_parameters differ: only one of them can be meant")
    return found[0] if found else _standard({}, "llm_config", language)


def _standard(written: dict[str, Any], where: str, language: dict[str, Any]) -> dict[str, Any]:
    named = {written.get(name) for name in ("rope_type", "type")} - {None} or {"default"}
    kinds = {"longrope" if kind == "su" else kind for kind in named}  # its older name
    kind = kinds.pop()
    if kinds or kind not in _KNOWN:
        raise CheckpointError(f"rope scaling {kind!r} is not supported: know {', '.join(_KNOWN)}, su")
    _KNOWN[kind].check(written, f"{where}.")
    numbers = {"rope_theta": _agreed("rope_theta", written, language, 10000.0)}
    if _KNOWN[kind] is _SCALED:
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
