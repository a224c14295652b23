"""The variables of the environment that this program heeds: what each does, and what may stand in it.

A command checks all of them before it begins (`check`), so that a mistyped one ends it at once and not after an hour.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from aiflow_cli.errors import UsageError
from aiflow_cli.paths import user_path

T_co = TypeVar("T_co", covariant=True)
_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class Variable(Generic[T_co]):
    """A variable of the environment. `read` makes a value of its text, and raises UsageError if it can be none."""

    name: str
    does: str
    read: Callable[[str], T_co]

    @property
    def text(self) -> str:
        """What stands in it; empty is the same as not set."""
        return os.environ.get(self.name, "").strip()

    def value(self) -> T_co | None:
        """Its value, None if it is not set; raises UsageError, which names the variable."""
        try:
            return self.read(self.text) if self.text else None
        except UsageError as error:
            raise UsageError(f"{self.name}={self.text!r} {error}") from None


def _switch(text: str) -> bool:
    if (value := _SWITCH.get(text.lower())) is None:
        raise UsageError("is neither yes nor no: write it as 1 or 0")
    return value


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) <= threading.TIMEOUT_MAX:
            return seconds
    raise UsageError("is no number of seconds above 0: write it as 600")


def _whole_seconds(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise UsageError("is no whole number of seconds: write it as 10")
    return int(text)


def _path(text: str) -> Path:
    try:
        return user_path(text)
    except UsageError as error:
        raise UsageError(f"cannot be used: {error}") from None


def _address(text: str) -> str:
    """An address as httpx takes it, to which it goes; without a slash at its end."""
    import httpx

    with contextlib.suppress(httpx.InvalidURL):
        parsed = httpx.URL(text)
        if parsed.scheme in ("http", "https") and parsed.host:
            return text.rstrip("/")
    raise UsageError("is no address: it must begin with http:// or https:// and name a host")


DATA = Variable("AIFLOW_DATA", "The folder that holds `vehicles-openimage`, instead of `data`.", _path)
DEBUG = Variable("AIFLOW_DEBUG", "Shows the traceback of an error, as `--debug` does.", _switch)
_ANSWER = "How long the device waits for an answer of the server, instead of 600 s."
ANSWER_TIMEOUT = Variable("AIFLOW_ANSWER_TIMEOUT_S", _ANSWER, _seconds)
OPENIMAGES_URL = Variable("AIFLOW_OPENIMAGES_URL", "A mirror of Open Images' photographs.", _address)
METADATA_URL = Variable("AIFLOW_OPENIMAGES_METADATA_URL", "A mirror of Open Images' tables.", _address)
ROBOFLOW_URL = Variable("AIFLOW_ROBOFLOW_URL", "A mirror of Roboflow.", _address)
ROBOFLOW_KEY = Variable("ROBOFLOW_API_KEY", "Your key, for `aiflow download --source roboflow`.", str)

_HUB_TIMEOUT = "A time of the hub's own library; what this program asks of the hub has times of its own."
VARIABLES: tuple[Variable[object], ...] = (
    *(DATA, DEBUG, ANSWER_TIMEOUT, OPENIMAGES_URL, METADATA_URL, ROBOFLOW_URL, ROBOFLOW_KEY),
    # What follows is read by the libraries in use, which pass over or stumble on what they do not understand.
    Variable("HF_HOME", "The hub's folder: weights are kept in its `hub`.", _path),
    Variable("HF_HUB_CACHE", "Where weights are kept, instead of `hub` in HF_HOME.", _path),
    Variable("HF_ENDPOINT", "A mirror of the hub.", _address),
    Variable("HF_TOKEN", "Gives access to gated and private weights.", str),
    Variable("HF_HUB_OFFLINE", "Fetches nothing: only what is kept already is used.", _switch),
    Variable("HF_HUB_DOWNLOAD_TIMEOUT", _HUB_TIMEOUT, _whole_seconds),
    Variable("HF_HUB_ETAG_TIMEOUT", _HUB_TIMEOUT, _whole_seconds),
    Variable("HTTP_PROXY", "The proxy for what is downloaded; also HTTPS_PROXY, ALL_PROXY, NO_PROXY.", str),
    Variable("NO_COLOR", "Leaves colours out.", str),
    Variable("COLUMNS", "The width of tables, instead of the terminal's.", str),
)
"""All of them, as the README lists them."""


def mistakes() -> dict[str, str]:
    """What is wrong with each variable that is set to what it cannot be."""
    found = {}
    for variable in VARIABLES:
        try:
            variable.value()
        except UsageError as error:
            found[variable.name] = str(error)
    return found


def check() -> None:
    """Raise UsageError if any variable is set to what it cannot be."""
    if found := mistakes():
        raise UsageError("; ".join(found.values()))
