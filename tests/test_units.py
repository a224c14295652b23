"""Quantities as people write them, read and written."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.errors import UsageError
from aiflow_cli.units import format_duration, format_rate, format_size, parse_duration, parse_rate, parse_size


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [
        ("1MB/s", 1e6),
        ("500KB/s", 5e5),
        ("500kB/s", 5e5),
        ("8Mbit/s", 1e6),
        ("8mbit/s", 1e6),
        ("8MBit/S", 1e6),
        ("8mB/s", 8e6),
        ("1MB/S", 1e6),
        ("800 kbit/s", 1e5),
        ("1.5 MB/s", 1.5e6),
        ("2.GB/s", 2e9),
        (".5MB/s", 5e5),
        (" 40B/s ", 40.0),
        ("8bit/s", 1.0),
        ("1Gbit/s", 1.25e8),
        ("unlimited", math.inf),
        (" Unlimited ", math.inf),
    ],
)
def test_rates(text: str, bytes_per_s: float) -> None:
    assert parse_rate(text) == pytest.approx(bytes_per_s)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("0.5s", 0.5), ("250us", 2.5e-4), ("1 s", 1.0), ("0", 0.0), (" 0 ", 0.0), ("0ms", 0.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("10KB", 10_000), ("1MB", 1_000_000), ("1500", 1500), ("31.5kb", 31_500), ("2 GB", 2_000_000_000), ("7B", 7)],
)
def test_sizes(text: str, n_bytes: int) -> None:
    assert parse_size(text) == n_bytes


NO_NUMBERS = ["", "fast", "1..5MB", "-1MB", "+1MB", "1e6", "nan", "inf", "MB", "1 M B", "0x10B", "1,5MB", "9" * 400]


@pytest.mark.parametrize(
    "text", [*NO_NUMBERS, "1", "1MB", "1MB/min", "20ms", "8Mbps", "unlimited MB/s", "9" * 400 + "MB/s"]
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{text!r} is not a rate: write it as 1MB/s, 500KB/s")):
        parse_rate(text)


@pytest.mark.parametrize("text", [*NO_NUMBERS, "1", "20", "1MB/s", "1min", "-1s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{text!r} is not a duration: write it as 20ms, 0.5s or 0")):
        parse_duration(text)


@pytest.mark.parametrize("text", [*NO_NUMBERS, "1KiB", "1MB/s", "20ms"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{text!r} is not a size: write it as 10KB, 1MB or 1500")):
        parse_size(text)


@pytest.mark.parametrize("text", ["0MB/s", "0.0KB/s", "0bit/s"])
def test_a_rate_of_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="must be more than 0"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["8Mb/s", "500kb/s", "1b/s", "8mb/s ", "8Mb/S", "8 Mb/s", "8MB/s".lower(), " 1b/S "])
def test_a_small_b_alone_may_mean_bits(text: str) -> None:
    with pytest.raises(UsageError, match="may mean bits or bytes: write 1MB/s for bytes, 8Mbit/s for bits"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("write", "value", "expected"),
    [
        (format_rate, 1e6, "1 MB/s"),
        (format_rate, 5e5, "500 KB/s"),
        (format_rate, 40.0, "40 B/s"),
        (format_rate, 1.25e8, "125 MB/s"),
        (format_rate, math.inf, "unlimited"),
        (format_duration, 0.0, "0 s"),
        (format_duration, 0.0123, "12.3 ms"),
        (format_duration, 1.5, "1.5 s"),
        (format_duration, 2.5e-5, "25 us"),
        (format_duration, 12_345.0, "12345 s"),
        (format_duration, -0.0123, "-12.3 ms"),
        (format_size, 31_500, "31.5 KB"),
        (format_size, 0, "0 B"),
        (format_size, 50_000_000, "50 MB"),
        (format_size, 3e13, "30000 GB"),
    ],
)
def test_written_for_people(write: Callable[[float], str], value: float, expected: str) -> None:
    assert write(value) == expected


ROUND_TRIPS: list[tuple[Callable[[float], str], Callable[[str], float]]] = [
    (format_rate, parse_rate),
    (format_duration, parse_duration),
    (format_size, parse_size),
]


@pytest.mark.parametrize(("write", "read"), ROUND_TRIPS, ids=["rate", "duration", "size"])
@given(value=st.floats(1, 1e15))
def test_what_is_written_can_be_read(write: Callable[[float], str], read: Callable[[str], float], value: float) -> None:
    assert read(write(value)) == pytest.approx(value, rel=1e-3, abs=0.5)


@given(st.floats(1e-6, 1e-1))
def test_short_durations_too(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-3)


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_wrong_use(text: str) -> None:
    for read in (parse_rate, parse_duration, parse_size):
        try:
            value = read(text)
        except UsageError:
            continue
        assert value >= 0
