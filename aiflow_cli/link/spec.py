"""What a link is: rate per direction, burst, one-way delay."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aiflow_cli.errors import UsageError
from aiflow_cli.units import format_duration, format_rate, format_size

DEFAULT_BURST_BYTES = 10_000
LONGEST_DELAY_S = 60.0
"""One way, the longest that is taken for a link's: neither side waits that long for an answer."""


@dataclass(frozen=True)
class LinkSpec:
    """A shaped link. Rates and delay are of the application's bytes, our framing included, TCP's and IP's headers not.

    Uplink is device to server. A rate of math.inf is not shaped. The bucket of `burst_bytes` is full at the start.
    """

    uplink_bytes_per_s: float
    downlink_bytes_per_s: float
    burst_bytes: int = DEFAULT_BURST_BYTES
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        """Raise UsageError for what no link can be."""
        for name, rate in (("uplink", self.uplink_bytes_per_s), ("downlink", self.downlink_bytes_per_s)):
            if not rate > 0:
                raise UsageError(f"the {name} rate must be more than 0 B/s, not {rate}")
        if self.burst_bytes < 1:
            raise UsageError(f"the burst must be at least 1 byte, not {self.burst_bytes}")
        if not (self.delay_s >= 0 and math.isfinite(self.delay_s)):
            raise UsageError(f"the delay must be 0 s or more, not {self.delay_s}")
        if self.delay_s > LONGEST_DELAY_S:
            raise UsageError(f"the delay must be {format_duration(LONGEST_DELAY_S)} or less, not {self.delay_s} s")

    @property
    def unlimited(self) -> bool:
        """Whether nothing is to be shaped, so that no relay is needed."""
        return math.isinf(self.uplink_bytes_per_s) and math.isinf(self.downlink_bytes_per_s) and self.delay_s == 0

    def describe(self) -> str:
        """In words: `1 MB/s, delay 5 ms, burst 10 KB`."""
        up, down = format_rate(self.uplink_bytes_per_s), format_rate(self.downlink_bytes_per_s)
        rate = up if up == down else f"{up} up, {down} down"
        return f"{rate}, delay {format_duration(self.delay_s)}, burst {format_size(self.burst_bytes)}"
