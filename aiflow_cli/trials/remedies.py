"""What a checked model says of a wrong value, as what to write instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["remedy"]


def remedy(error: Mapping[str, Any], written: Callable[[Any], str] = str) -> str:
    """The remedy for one of pydantic's errors; a bound is `written` as its users write such a value."""
    context = error.get("ctx", {})
    bounds = {name: written(context[name]) for name in ("ge", "le", "gt") if name in context}
    remedies = {
        "greater_than_equal": f"give {bounds.get('ge')} or more",
        "less_than_equal": f"give {bounds.get('le')} or less",
        "greater_than": f"give more than {bounds.get('gt')}",
        "int_type": "give a whole number",
        "bool_type": "give true or false",
        "string_type": "give a text in quotes",
        "string_too_short": "leave the key out, or give a text",
        "string_unicode": "give a text that is UTF-8",
        "string_pattern_mismatch": "use letters, digits, - and _",
        "too_short": "name at least one",
        "dict_type": "give a table",
        "model_type": "give a table",
        "enum": f"give one of {context.get('expected')}",
        "literal_error": f"give one of {context.get('expected')}",
    }
    return remedies.get(error["type"], str(error["msg"]).removeprefix("Value error, "))
