"""Bootstrap intervals of ratios of sums."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.analysis.intervals import (
    FEWEST_IMAGES,
    Chance,
    Interval,
    apart_interval,
    percentiles,
    ratio_interval,
    speedup_interval,
    too_few,
)
from aiflow_cli.analysis.metrics import Ratio, Sums, Unit

APART = Chance(images=1)


def named(ratios: dict[str, Ratio]) -> Sums:
    return {Unit(0, "laptop", name): ratio for name, ratio in ratios.items()}


def sums(seed: int, n: int = 40, scale: float = 1.0, noise: float = 0.02) -> Sums:
    """Images of very different lengths and paces (the same for every seed), times `scale`, with noise of their own."""
    images, own = random.Random(0), random.Random(seed)
    found = {}
    for i in range(n):
        tokens, pace = images.randint(20, 90), images.uniform(0.5, 1.5)
        found[Unit(0, "laptop", f"image {i}")] = Ratio(tokens * pace * scale * own.gauss(1, noise), tokens)
    return found


def test_a_ratio_of_sums_is_no_mean_of_ratios() -> None:
    halves = {f"long {i}": Ratio(90.0, 90) for i in range(6)} | {f"short {i}": Ratio(30.0, 10) for i in range(6)}
    interval = ratio_interval(named(halves))
    assert interval.value == 1.2
    assert 1 < interval.low < 1.2 < interval.high < 3


def test_same_everywhere_has_no_width() -> None:
    interval = ratio_interval(named({str(i): Ratio(2.0 * i, i) for i in range(1, 30)}))
    assert interval == pytest.approx((2, 2, 2))


def test_pairing_takes_out_what_makes_an_image_slow() -> None:
    paired, unpaired = speedup_interval(sums(1, scale=2), sums(2)), apart_interval(sums(1, scale=2), sums(2), APART)
    assert paired.value == pytest.approx(unpaired.value)
    assert paired.value == pytest.approx(2, rel=0.03)
    assert unpaired.high - unpaired.low > 5 * (paired.high - paired.low)


def test_only_common_images_are_compared() -> None:
    mine, others = sums(1), sums(1, scale=3)
    others[Unit(0, "laptop", "elsewhere")] = Ratio(1e9, 1)
    interval = speedup_interval(others, mine)
    assert interval == pytest.approx((3, 3, 3))


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    covered = 0
    for seed in range(100):
        interval = speedup_interval(sums(seed, scale=2, noise=0.1), sums(1000 + seed, noise=0.1))
        covered += interval.low <= 2 <= interval.high
    assert 85 <= covered <= 100


def test_nothing_to_divide_by() -> None:
    assert not ratio_interval({}).defined
    assert not ratio_interval(named({"a": Ratio(0, 0)})).defined
    assert not speedup_interval(named({"a": Ratio(1, 1)}), named({"b": Ratio(1, 1)})).defined
    assert not apart_interval(named({"a": Ratio(1, 1)}), named({"b": Ratio(0, 0)}), APART).defined


@given(st.integers(1, 14), st.integers(1, 14))
def test_too_few_images_have_no_interval(n: int, others: int) -> None:
    """A value, and no ends; not ends that equal it, which would say that it is known exactly."""
    ours, theirs = sums(1, n), sums(2, others, scale=2)
    paired, fewer = min(n, others), min(n, others)
    for interval, images in (
        (ratio_interval(ours), n),
        (speedup_interval(ours, theirs), paired),
        (apart_interval(ours, theirs, APART), fewer),
    ):
        assert interval.known == (images >= FEWEST_IMAGES) == (too_few(images) is None)
        assert (
            (interval.as_json("x")["x_ci"] is None)
            == math.isnan(interval.low)
            == math.isnan(interval.high)
            == (not interval.known)
        )
        assert not interval.known or interval.low < interval.value < interval.high


def test_images_that_tell_nothing_do_not_count() -> None:
    """Twenty images of which nine reached a draft position are nine."""
    few = sums(1, 9) | named({f"silent {i}": Ratio(0, 0) for i in range(11)})
    for interval in (ratio_interval(few), speedup_interval(few, sums(2, 20)), apart_interval(few, few, APART)):
        assert not interval.known


def test_a_sample_in_which_nothing_is_defined_has_no_interval() -> None:
    assert not percentiles(np.array([1.0, *[math.nan] * 50]), 20).known
    assert not percentiles(np.array([1.0]), 20).known
    assert percentiles(np.array([0.0, *[math.inf] * 50]), 20, "nearest") == (0.0, math.inf, math.inf)


def test_in_words() -> None:
    assert f"{Interval(1.818, 1.72, 1.92):.2f}" == "1.82 [1.72, 1.92]"
    assert f"{Interval(1.818):.2f}" == "1.82"
    assert f"{Interval(math.nan):.2f}" == "-"
    assert too_few(1) == "1 image: too few for an interval, which needs at least 10"
    assert Interval(2, 1, 3).times(1e3) == (2000, 1000, 3000)


def in_sessions(ratios: Sums, deviations: tuple[float, ...]) -> Sums:
    """The same images once in each session, all slower there by a deviation."""
    return {
        Unit(session, unit.node, unit.image_id): Ratio(ratio.over * (1 + deviation), ratio.under)
        for session, deviation in enumerate(deviations)
        for unit, ratio in ratios.items()
    }


def test_one_session_changes_nothing() -> None:
    ours, theirs = sums(1, scale=2), sums(2)
    again = speedup_interval(in_sessions(ours, (0.0,)), in_sessions(theirs, (0.0,)))
    assert again == speedup_interval(ours, theirs)


def test_sessions_that_agree_are_no_further_images() -> None:
    """The same measured three times over is as uncertain as it was: images are the same ones."""
    once, thrice = ratio_interval(sums(1)), ratio_interval(in_sessions(sums(1), (0.0, 0.0, 0.0)))
    assert thrice == pytest.approx(once)
    few = ratio_interval(in_sessions(sums(1, FEWEST_IMAGES - 1), (0.0, 0.0, 0.0)))
    assert not few.known


def test_what_sessions_have_in_common_cancels_in_a_pair() -> None:
    deviations = (0.05, -0.05, 0.0)
    ours, theirs = (in_sessions(one, deviations) for one in (sums(1, scale=2), sums(2)))
    paired, alone = speedup_interval(ours, theirs), ratio_interval(ours)
    assert paired == pytest.approx(speedup_interval(sums(1, scale=2), sums(2)), rel=0.005)
    assert alone.high / alone.low > 1.2  # t with two degrees of freedom: 3 sessions say little of what a fourth would


def test_an_interval_over_sessions_is_that_of_their_means() -> None:
    """Where images tell nothing apart: mean and t interval of the sessions' logarithms."""
    deviations = (0.03, -0.02, 0.01)
    flat = named({str(i): Ratio(1.0, 1) for i in range(400)})
    found = ratio_interval(in_sessions(flat, deviations))
    logs = np.log1p(deviations)
    half = 4.303 * logs.std(ddof=1) / math.sqrt(3)
    assert math.log(found.high / found.low) == pytest.approx(2 * half, rel=0.15)
