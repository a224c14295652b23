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
    Interval,
    percentiles,
    ratio_interval,
    speedup_interval,
    too_few,
    unpaired_ratio_interval,
)
from aiflow_cli.analysis.metrics import Ratio


def sums(seed: int, n: int = 40, scale: float = 1.0, noise: float = 0.02) -> dict[str, Ratio]:
    """Images of very different lengths and paces (the same for every seed), times `scale`, with noise of their own."""
    images, own = random.Random(0), random.Random(seed)
    found = {}
    for i in range(n):
        tokens, pace = images.randint(20, 90), images.uniform(0.5, 1.5)
        found[f"image {i}"] = Ratio(tokens * pace * scale * own.gauss(1, noise), tokens)
    return found


def test_a_ratio_of_sums_is_no_mean_of_ratios() -> None:
    halves = {f"long {i}": Ratio(90.0, 90) for i in range(6)} | {f"short {i}": Ratio(30.0, 10) for i in range(6)}
    interval = ratio_interval(halves)
    assert interval is not None
    assert interval.value == 1.2
    assert 1 < interval.low < 1.2 < interval.high < 3


def test_same_everywhere_has_no_width() -> None:
    interval = ratio_interval({str(i): Ratio(2.0 * i, i) for i in range(1, 30)})
    assert interval == pytest.approx((2, 2, 2))


def test_pairing_takes_out_what_makes_an_image_slow() -> None:
    paired, unpaired = speedup_interval(sums(1, scale=2), sums(2)), unpaired_ratio_interval(sums(1, scale=2), sums(2))
    assert paired is not None
    assert unpaired is not None
    assert paired.value == pytest.approx(unpaired.value)
    assert paired.value == pytest.approx(2, rel=0.03)
    assert unpaired.high - unpaired.low > 5 * (paired.high - paired.low)


def test_only_common_images_are_compared() -> None:
    mine, others = sums(1), sums(1, scale=3)
    others["elsewhere"] = Ratio(1e9, 1)
    interval = speedup_interval(others, mine)
    assert interval == pytest.approx((3, 3, 3))


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    covered = 0
    for seed in range(100):
        interval = speedup_interval(sums(seed, scale=2, noise=0.1), sums(1000 + seed, noise=0.1))
        assert interval is not None
        covered += interval.low <= 2 <= interval.high
    assert 85 <= covered <= 100


def test_nothing_to_divide_by() -> None:
    assert ratio_interval({}) is None
    assert ratio_interval({"a": Ratio(0, 0)}) is None
    assert speedup_interval({"a": Ratio(1, 1)}, {"b": Ratio(1, 1)}) is None
    assert unpaired_ratio_interval({"a": Ratio(1, 1)}, {"b": Ratio(0, 0)}) is None


@given(st.integers(1, 14), st.integers(1, 14))
def test_too_few_images_have_no_interval(n: int, others: int) -> None:
    """A value, and no ends; not ends that equal it, which would say that it is known exactly."""
    ours, theirs = sums(1, n), sums(2, others, scale=2)
    paired, fewer = min(n, others), min(n, others)
    for interval, images in (
        (ratio_interval(ours), n),
        (speedup_interval(ours, theirs), paired),
        (unpaired_ratio_interval(ours, theirs), fewer),
    ):
        assert interval is not None
        assert interval.known == (images >= FEWEST_IMAGES) == (too_few(images) is None)
        assert (interval.ends is None) == math.isnan(interval.low) == math.isnan(interval.high) == (not interval.known)
        assert not interval.known or interval.low < interval.value < interval.high


def test_images_that_tell_nothing_do_not_count() -> None:
    """Twenty images of which nine reached a draft position are nine."""
    few = sums(1, 9) | {f"silent {i}": Ratio(0, 0) for i in range(11)}
    for interval in (ratio_interval(few), speedup_interval(few, sums(2, 20)), unpaired_ratio_interval(few, few)):
        assert interval is not None
        assert not interval.known


def test_a_sample_in_which_nothing_is_defined_has_no_interval() -> None:
    assert not percentiles(1.0, np.full(50, np.nan), 20).known
    assert not percentiles(1.0, np.empty(0), 20).known
    assert percentiles(0.0, np.full(50, math.inf), 20, "nearest") == (0.0, math.inf, math.inf)


def test_in_words() -> None:
    assert f"{Interval(1.818, 1.72, 1.92):.2f}" == "1.82 [1.72, 1.92]"
    assert f"{Interval(1.818):.2f}" == "1.82"
    assert f"{Interval(math.nan):.2f}" == "-"
    assert too_few(1) == "1 image: too few for an interval, which needs at least 10"
    assert Interval(2, 1, 3).times(1e3) == (2000, 1000, 3000)
