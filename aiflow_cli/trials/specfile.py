"""Reading an experiment: a TOML file and values given over it, or options alone. Errors name the line or the option."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from aiflow_cli.errors import UsageError
from aiflow_cli.paths import user_path
from aiflow_cli.trials.spec import ExperimentSpec, LinkGrid

SHIPPED = Path(str(files("aiflow_cli"))) / "experiments"
"""A link to experiments/ in a checkout, a folder of the package where it is installed."""
_HEADER = re.compile(r"\s*\[([^\[\]]+)\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_\"'.\- ]+?)\s*=")
_REMEDIES = {
    "greater_than_equal": "give {ge} or more",
    "less_than_equal": "give {le} or less",
    "int_type": "give a whole number",
    "bool_type": "give true or false",
    "string_type": "give a text in quotes",
    "string_too_short": "leave the key out, or give a text",
    "string_unicode": "give a text that is UTF-8",
    "string_pattern_mismatch": "use letters, digits, - and _",
    "too_short": "name at least one",
    "dict_type": "give a table",
    "model_type": "give a table",
    "enum": "give one of {expected}",
    "literal_error": "give one of {expected}",
}
"""What to write instead, by the type of pydantic's error."""
_SPOKEN = {"pairs": "pair", "methods": "method", "gammas": "gamma"}
"""The options that are not called as their keys."""
_INNER = {"link": 1, "checkpoints": 2}
"""How far below these tables the key is that an option gives."""


class Override(NamedTuple):
    """`--set KEY=VALUE`: a dotted key, the value, and the text as it was given."""

    path: tuple[str, ...]
    value: Any
    text: str


def shipped() -> dict[str, Path]:
    """The experiments that come with the program, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def load_spec(place: str, overrides: Sequence[str] = ()) -> ExperimentSpec:
    """The experiment in a file, or the shipped one of that name, with `KEY=VALUE` overrides. Raises UsageError."""
    path = _find(place)
    try:
        text = path.read_text(encoding="utf-8-sig")
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else path
        raise UsageError(f"{where}: this is no TOML ({error}): texts stand in quotes") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path} ({error}): give a TOML file") from None
    wanted = [parse_override(override) for override in overrides]
    for override in wanted:
        _put(document, override)
    try:
        return ExperimentSpec(**document)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{_where(first, path, text, wanted)}: {_what(first)}") from None


def spec_of_options(values: Mapping[str, Any]) -> ExperimentSpec:
    """The experiment that a command's options give. Raises UsageError that names the option in one line."""
    try:
        return ExperimentSpec(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where, said = first["loc"], _remedy(first)
        if where:  # else it is of several options
            depth = min(_INNER.get(str(where[0]), 0), len(where) - 1)
            key = _SPOKEN.get(str(where[depth]), str(where[depth]))
            value = "''" if first["input"] == "" else first["input"]
            said = f"--{key.replace('_', '-')} {value}: {said}"
        raise UsageError(said) from None


def _find(place: str) -> Path:
    path, known = user_path(place), shipped()
    if path.is_file():
        return path
    if place in known:
        return known[place]
    raise UsageError(f"no experiment {place!r}: {_near(place, known, 'give a TOML file, or one of')}")


def parse_override(text: str) -> Override:
    """`link.rate=2MB/s`: the value as TOML, or else as plain text. Raises UsageError."""
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise UsageError(f"--set {text}: write it as KEY=VALUE, link.rate=2MB/s say")
    try:
        return Override(path, tomllib.loads(f"value = {value}")["value"], text)
    except tomllib.TOMLDecodeError:
        return Override(path, value.strip(), text)


def _put(document: dict[str, Any], override: Override) -> None:
    table = document
    for part in override.path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UsageError(f"--set {override.text}: `{part}` is no table: set it as a whole")
    table[override.path[-1]] = override.value


def _where(error: Mapping[str, Any], path: Path, text: str, overrides: Sequence[Override]) -> str:
    location = [str(part) for part in error["loc"]]
    for override in reversed(overrides):
        shared = min(len(location), len(override.path))  # a table that is wrong as a whole may be so by one key of it
        if shared and location[:shared] == list(override.path[:shared]):
            return f"--set {override.text}"
    line = None if error["type"] == "missing" else line_of(text, location)
    return str(path) if line is None else f"{path}:{line}"


def line_of(text: str, path: Sequence[str]) -> int | None:
    """The line, from 1, that sets the longest beginning of a key."""
    table: tuple[str, ...] = ()
    best, best_length = None, 0
    for number, line in enumerate(text.splitlines(), 1):
        if found := _HEADER.match(line) or _KEY.match(line):
            key = tuple(part.strip().strip("\"'") for part in found[1].split("."))
            if found.re is _HEADER:
                table = key
            else:
                key = table + key
            if len(key) > best_length and tuple(path[: len(key)]) == key:
                best, best_length = number, len(key)
    return best


def _what(error: Mapping[str, Any]) -> str:
    """What is wrong with which key, and what to write instead."""
    location = [str(part) for part in error["loc"]]
    key = ".".join(part for part in location if not part.isdigit() and part != "[key]")
    if location[-1:] == ["[key]"]:
        return f"`{key}` is not known: {_remedy(error)}"
    match error["type"]:
        case "extra_forbidden":
            table: type[BaseModel] = ExperimentSpec if len(location) == 1 else LinkGrid
            return f"`{key}` is not known: {_near(location[-1], table.model_fields, 'known are')}"
        case "missing":
            return f"`{key}` is missing: add it"
        case "value_error":
            return f"{key}: {_remedy(error)}" if key else _remedy(error)
        case _:
            return f"{key} = {error['input']!r}: {_remedy(error)}"


def _remedy(error: Mapping[str, Any]) -> str:
    told = str(error["msg"]).removeprefix("Value error, ")
    return _REMEDIES[error["type"]].format(**error.get("ctx", {})) if error["type"] in _REMEDIES else told


def _near(word: str, known: Iterable[str], otherwise: str) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean `{close[0]}`?" if close else f"{otherwise} {', '.join(known)}"
