"""What the device knows of one response when it is over. All times are seconds by the device's clock, or server durations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from aiflow_cli.link.bucket import completion_time_s
from aiflow_cli.link.spec import LinkSpec


class Delivery(NamedTuple):
    """Tokens that came together: seconds since t0, and how many."""

    at_s: float
    n_tokens: int


@dataclass(frozen=True)
class Round:
    """One draft and one verification. The seven parts follow one another and sum to `wall_s`, but for what the clock does not see."""

    drafted: int
    judged: int
    """Drafts that were accepted or rejected; those behind the first rejection, or behind an undecided position, were not."""
    accepted: int
    delivered: int
    draft_s: float
    encode_s: float
    uplink_s: float
    queue_s: float
    verify_s: float
    downlink_s: float
    apply_s: float
    wall_s: float
    bytes_up: int
    bytes_down: int
    redecide_steps: int = 0
    """Single steps that decided a position again (`decoding/exact.py`); their time is part of `verify_s`."""
    redecide_s: float = 0.0


@dataclass
class Prefill:
    """Before the first token: the draft model's prefill, the upload, and the server's queue and prefill. None: there was none.

    The draft model is prefilled on the device, beside the rest, or, co-located, on the server, after the target.
    """

    draft_s: float | None = None
    upload_s: float | None = None
    server_s: float | None = None
    server_queue_s: float | None = None


@dataclass
class Response:
    """One image's caption, and where its time went."""

    tokens: list[int] = field(default_factory=list)
    stopped: bool = False
    deliveries: list[Delivery] = field(default_factory=list)
    prefill: Prefill = field(default_factory=Prefill)
    rounds: list[Round] = field(default_factory=list)
    steps_s: list[float] = field(default_factory=list)
    bytes_up: Counter[str] = field(default_factory=Counter)
    bytes_down: Counter[str] = field(default_factory=Counter)

    @property
    def ttft_s(self) -> float:
        """Time to the first token."""
        return self.deliveries[0].at_s

    @property
    def latency_s(self) -> float:
        """Time to the last token."""
        return self.deliveries[-1].at_s


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

    Assumption: each way takes its ideal time, and the rest (kernel, wake-ups, relay) falls half to each. If the whole is
    shorter than the ideal (the relay was early by its tolerance), both are scaled down.
    """
    whole = max(network_s, 0.0)
    expected = ideal.up_s + ideal.down_s
    if whole < expected:
        return Ways(whole * ideal.up_s / expected, whole * ideal.down_s / expected)
    rest = (whole - expected) / 2
    return Ways(ideal.up_s + rest, ideal.down_s + rest)
