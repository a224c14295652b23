"""Token bucket arithmetic against its bounds, its closed form, and a brute-force simulation."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_cli.link.bucket import TokenBucket, completion_time_s
from tests.link.fluid import Offer, fluid_departures

STEP_S = 1e-4
rates = st.sampled_from([5e4, 5e5, 1e6, 2e6]) | st.floats(1e4, 1e7)
bursts = st.sampled_from([1, 1500, 10_000]) | st.integers(1, 50_000)


@st.composite
def traffic(draw: st.DrawFn, most_bytes: int = 20_000, longest: int = 25) -> list[Offer]:
    """Offers in order of time: bursts, pauses, and many at once."""
    now_s, offers = 0.0, []
    for gap_s, n_bytes in draw(
        st.lists(st.tuples(st.just(0.0) | st.floats(0, 0.05), st.integers(1, most_bytes)), min_size=1, max_size=longest)
    ):
        now_s += gap_s
        offers.append(Offer(now_s, n_bytes))
    return offers


def departures(offers: list[Offer], rate: float, burst: int) -> list[float]:
    bucket = TokenBucket(rate, burst)
    return [bucket.admit(offer.at_s, offer.n_bytes) for offer in offers]


@given(traffic(), rates, bursts)
def test_what_passes_is_at_most_burst_plus_rate_times_time(offers: list[Offer], rate: float, burst: int) -> None:
    leaves = departures(offers, rate, burst)
    total = [0]
    for offer in offers:
        total.append(total[-1] + offer.n_bytes)
    for i, begin_s in enumerate([offers[0].at_s, *leaves]):
        for j in range(i, len(leaves)):
            allowed = burst + rate * (leaves[j] - begin_s)
            assert total[j + 1] - total[i] <= allowed + 1e-3


@given(traffic(), rates, bursts)
def test_in_order_and_never_before_they_came(offers: list[Offer], rate: float, burst: int) -> None:
    leaves = departures(offers, rate, burst)
    assert leaves == sorted(leaves)
    assert all(left_s >= offer.at_s for left_s, offer in zip(leaves, offers, strict=True))


@given(traffic(), rates, bursts)
def test_no_capacity_is_wasted(offers: list[Offer], rate: float, burst: int) -> None:
    """A message leaves at once if the bucket holds it; else when the rate has carried it, behind those before."""
    leaves = departures(offers, rate, burst)
    for i, (offer, left_s) in enumerate(zip(offers, leaves, strict=True)):
        ready_s = offer.at_s if i == 0 else max(offer.at_s, leaves[i - 1])
        assert left_s <= ready_s + offer.n_bytes / rate + 1e-9


@settings(max_examples=60)
@given(traffic(), st.floats(1e5, 5e6), bursts)
def test_agrees_with_water(offers: list[Offer], rate: float, burst: int) -> None:
    """A step lets at most the burst pass, so it is late where the burst is less than what a step carries."""
    burst = max(burst, round(2 * rate * STEP_S))
    exact, water = departures(offers, rate, burst), fluid_departures(offers, rate, burst, STEP_S)
    assert all(abs(a - b) <= 2 * STEP_S for a, b in zip(exact, water, strict=True))


@given(st.integers(1, 10**7), rates, bursts, st.floats(0, 0.1))
def test_one_message_takes_the_closed_form(n_bytes: int, rate: float, burst: int, begin_s: float) -> None:
    left_s = TokenBucket(rate, burst).admit(begin_s, n_bytes)
    assert left_s - begin_s == pytest.approx(completion_time_s(n_bytes, rate, burst), abs=1e-9)


@given(st.integers(1, 10**6), rates, bursts, st.integers(1, 50))
def test_cutting_a_message_changes_nothing(n_bytes: int, rate: float, burst: int, pieces: int) -> None:
    whole, cut = TokenBucket(rate, burst), TokenBucket(rate, burst)
    cut.refill(0.0)
    left_s = 0.0
    for i in range(pieces):
        left_s = cut.take(0.0, n_bytes * (i + 1) // pieces - n_bytes * i // pieces)
    assert left_s == pytest.approx(whole.admit(0.0, n_bytes), abs=1e-9)


@pytest.mark.parametrize(
    ("n_bytes", "rate", "burst", "delay_s", "expected_s"),
    [
        (50_000, 1e6, 10_000, 0.0, 0.040),
        (1_000_000, 5e5, 10_000, 0.0, 1.98),
        (10_000, 1e6, 10_000, 0.0, 0.0),
        (40, 1e6, 10_000, 0.02, 0.02),
        (50_000, 2e6, 10_000, 0.005, 0.025),
    ],
)
def test_completion_times(n_bytes: int, rate: float, burst: int, delay_s: float, expected_s: float) -> None:
    assert completion_time_s(n_bytes, rate, burst, delay_s) == pytest.approx(expected_s)


def test_a_bucket_that_rested_is_full_again_and_no_fuller() -> None:
    bucket = TokenBucket(1e6, 10_000)
    assert bucket.admit(0.0, 50_000) == pytest.approx(0.04)
    assert bucket.admit(10.0, 10_000) == 10.0
    assert bucket.admit(10.0, 1000) == pytest.approx(10.001)
    assert bucket.free_at_s == pytest.approx(10.001)
