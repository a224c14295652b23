"""Quantities as people write them: `1MB/s`, `8Mbit/s`, `20ms`, `10KB`. KB = 1000 bytes, as in the paper."""

from __future__ import annotations

import math
import re

from aiflow_cli.errors import UsageError

_NUMBER = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z/]*)\s*")
_DURATIONS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_SIZES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9}
_RATES = {f"{unit}/s": size for unit, size in _SIZES.items()}
_RATES |= {f"{unit}it/s": size / 8 for unit, size in _SIZES.items()}
UNLIMITED = "unlimited"


def _parse(text: str, units: dict[str, float], what: str, examples: str) -> float:
    match = _NUMBER.fullmatch(text)
    value = float(match[1]) * units.get(match[2].lower(), math.inf) if match else math.inf
    if not math.isfinite(value):
        raise UsageError(f"{text!r} is not {what}: write it as {examples}")
    return value


def parse_rate(text: str) -> float:
    """Bytes per second; math.inf for "unlimited". Raises UsageError for anything that is no positive rate.

    A small b alone is refused, however the rest is written: by `8Mb/s` some mean bits and some bytes, and a link eight
    times too fast looks like any other.
    """
    if text.strip().lower() == UNLIMITED:
        return math.inf
    if text.rstrip().endswith(("b/s", "b/S")):
        raise UsageError(f"{text!r} may mean bits or bytes: write 1MB/s for bytes, 8Mbit/s for bits")
    rate = _parse(text, _RATES, "a rate", "1MB/s, 500KB/s, 8Mbit/s or unlimited")
    if rate <= 0:
        raise UsageError(f"the rate {text!r} must be more than 0: write it as 1MB/s, or unlimited")
    return rate


def parse_duration(text: str) -> float:
    """Seconds. A bare 0 needs no unit. Raises UsageError."""
    if text.strip() == "0":
        return 0.0
    return _parse(text, _DURATIONS, "a duration", "20ms, 0.5s or 0")


def parse_size(text: str) -> int:
    """Bytes; a bare number counts bytes. Raises UsageError."""
    return round(_parse(text, _SIZES | {"": 1.0}, "a size", "10KB, 1MB or 1500"))


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    factor, unit = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    scaled = value / factor
    return f"{scaled:.0f} {unit}" if abs(scaled) >= 1e4 else f"{scaled:.4g} {unit}"


def format_rate(bytes_per_s: float) -> str:
    """A rate for people: "1 MB/s", "unlimited"."""
    return UNLIMITED if math.isinf(bytes_per_s) else _scaled(bytes_per_s, ((1e6, "MB/s"), (1e3, "KB/s"), (1.0, "B/s")))


def format_duration(seconds: float) -> str:
    """A duration for people: "12.3 ms", "1.5 s"."""
    return "0 s" if seconds == 0 else _scaled(seconds, ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")))


def format_size(n_bytes: float) -> str:
    """A size for people: "31.5 KB"."""
    return _scaled(n_bytes, ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1.0, "B")))
