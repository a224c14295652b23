"""The arithmetic of an idle link per direction, and of a measured time that is told apart into both."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.link.ways import Ways, ideal_ways, split_network

LINK = LinkSpec(500e3, 2e6, burst_bytes=10_000, delay_s=0.02)
seconds = st.floats(0, 100)


def test_each_way_has_its_own_rate_and_both_have_burst_and_delay() -> None:
    assert ideal_ways(LINK, 60_000, 30_000) == pytest.approx((50e3 / 500e3 + 0.02, 20e3 / 2e6 + 0.02))


def test_what_fits_into_the_burst_takes_the_delay_alone() -> None:
    assert ideal_ways(LINK, 10_000, 0) == (0.02, 0.02)


def test_a_link_without_a_rate_takes_the_delay_alone() -> None:
    assert ideal_ways(LinkSpec(math.inf, math.inf, delay_s=0.5), 10**9, 10**9) == (0.5, 0.5)


@given(seconds, st.builds(Ways, seconds, seconds))
def test_both_ways_make_up_the_whole_and_none_is_negative(network_s: float, ideal: Ways) -> None:
    ways = split_network(network_s, ideal)
    assert sum(ways) == pytest.approx(network_s)
    assert min(ways) >= 0


def test_what_is_beyond_the_ideal_falls_half_to_each() -> None:
    assert split_network(1.0, Ways(0.5, 0.1)) == pytest.approx((0.7, 0.3))


def test_what_is_short_of_the_ideal_is_scaled_down() -> None:
    assert split_network(0.3, Ways(0.5, 0.1)) == pytest.approx((0.25, 0.05))


@pytest.mark.parametrize("ideal", [Ways(0.0, 0.0), Ways(0.5, 0.1)])
def test_a_time_below_zero_counts_as_none(ideal: Ways) -> None:
    assert split_network(-1e-4, ideal) == (0.0, 0.0)
