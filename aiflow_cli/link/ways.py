"""What an idle link takes each way, and how a time on the link that was measured as a whole is told apart into both."""

from __future__ import annotations

from typing import NamedTuple

from aiflow_cli.link.bucket import completion_time_s
from aiflow_cli.link.spec import LinkSpec


class Ways(NamedTuple):
    """Seconds on the way up and down."""

    up_s: float
    down_s: float


def ideal_ways(link: LinkSpec, up_bytes: int, down_bytes: int) -> Ways:
    """What an idle link with a full bucket takes for a message each way."""
    up = completion_time_s(up_bytes, link.uplink_bytes_per_s, link.burst_bytes, link.delay_s)
    down = completion_time_s(down_bytes, link.downlink_bytes_per_s, link.burst_bytes, link.delay_s)
    return Ways(up, down)


def split_network(network_s: float, ideal: Ways) -> Ways:
    """The time on the link, told apart into up and down without a common clock.

    Assumption: each way takes its ideal time, and the rest (kernel, wake-ups, relay) falls half to each. If the whole
    is shorter than the ideal (the relay was early by its tolerance), both are scaled down.
    """
    whole = max(network_s, 0.0)
    expected = ideal.up_s + ideal.down_s
    if whole < expected:
        return Ways(whole * ideal.up_s / expected, whole * ideal.down_s / expected)
    rest = (whole - expected) / 2
    return Ways(ideal.up_s + rest, ideal.down_s + rest)
