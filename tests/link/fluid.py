"""A token bucket by brute force: water in small steps of time, as a check of arithmetic that knows no steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Offer(NamedTuple):
    """Bytes that come at a time."""

    at_s: float
    n_bytes: int


def fluid_departures(offers: Sequence[Offer], rate_bytes_per_s: float, burst_bytes: int, step_s: float) -> list[float]:
    """When the last byte of each offer leaves, first come first served. Right to about one step."""
    ends, total = [], 0
    for offer in offers:
        total += offer.n_bytes
        ends.append(total)
    departures: list[float] = []
    tokens, passed, offered, coming, step = float(burst_bytes), 0.0, 0, 0, 0
    while len(departures) < len(offers):
        now_s = step * step_s
        while coming < len(offers) and offers[coming].at_s <= now_s:
            offered += offers[coming].n_bytes
            coming += 1
        flow = min(tokens, offered - passed)
        passed += flow
        tokens = min(float(burst_bytes), tokens - flow + rate_bytes_per_s * step_s)
        while len(departures) < coming and ends[len(departures)] <= passed + 1e-6:
            departures.append(now_s)
        step += 1
    return departures
