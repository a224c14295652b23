"""Token bucket arithmetic: when bytes leave a shaped direction, a pure function of when and how many came.

The bucket is kept as a virtual finishing time v: bytes that came at time a leave at max(a, v) after
v = max(v, a - burst / rate) + n / rate. Nothing here sleeps or asks for the time.
"""

from __future__ import annotations

import math


def completion_time_s(n_bytes: int, rate_bytes_per_s: float, burst_bytes: int, delay_s: float = 0.0) -> float:
    """From the first byte offered to the last byte delivered, over an idle link, its bucket full (fluid model)."""
    return max(0.0, n_bytes - burst_bytes) / rate_bytes_per_s + delay_s


class TokenBucket:
    """One direction's rate and burst; full at the start. Feed it in order of time."""

    def __init__(self, rate_bytes_per_s: float, burst_bytes: int) -> None:
        self.rate_bytes_per_s = rate_bytes_per_s
        self._burst_s = burst_bytes / rate_bytes_per_s
        self._free_at_s = -math.inf

    def admit(self, now_s: float, n_bytes: int) -> float:
        """Commit `n_bytes` that came at `now_s`; returns when the last of them leaves."""
        self.refill(now_s)
        return self.take(now_s, n_bytes)

    def refill(self, now_s: float) -> None:
        """Note that nothing waited before `now_s`: the bucket holds at most its burst then."""
        self._free_at_s = max(self._free_at_s, now_s - self._burst_s)

    def take(self, came_s: float, n_bytes: int) -> float:
        """Commit `n_bytes` that have waited since `came_s` or came then; returns when the last of them leaves."""
        self._free_at_s += n_bytes / self.rate_bytes_per_s
        return max(came_s, self._free_at_s)

    @property
    def free_at_s(self) -> float:
        """When the next byte may leave; in the past while the bucket holds something."""
        return self._free_at_s
