"""Text on its way out, into streams and files that may have no sign for all of it: spelt out, so that no letter fails.

A terminal may know ASCII only (`PYTHONIOENCODING=ascii`), and a file's name may be bytes that are no UTF-8, which
Python hands around as lone surrogates that no file of text can hold.
"""

from __future__ import annotations

import codecs
from typing import Any

SPELT_OUT = "aiflow.spelt-out"
"""The name of this way to encode, as the `errors` of a stream."""
_WORDS = {"γ": "gamma", "α": "alpha", "×": "x", "…": "...", "·": "-", "–": "-", "−": "-"}
# Python's surrogate for a byte of a name that is no UTF-8: spelt `\\xe9`, after the byte.
_WORDS |= {chr(0xDC00 + byte): f"\\x{byte:02x}" for byte in range(0x80, 0x100)}


def _spell_out(error: UnicodeError) -> tuple[str, int]:
    """A word for signs of ours, `\\u4e2d` for any other sign."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(_WORDS.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in signs), error.end


codecs.register_error(SPELT_OUT, _spell_out)


def printable(text: str, encoding: str = "utf-8") -> str:
    """`text` with everything spelt out that the encoding has no sign for."""
    return text.encode(encoding, SPELT_OUT).decode(encoding)


def printable_json(value: Any) -> Any:
    """A document of JSON with all its texts printable, so that every reader of JSON takes it."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable_json(key): printable_json(item) for key, item in value.items()}
    return [printable_json(item) for item in value] if isinstance(value, list | tuple) else value


def one_line(error: object, most: int = 200) -> str:
    """What an error of another library says, as a part of a line of ours: at most `most` characters, never nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__
