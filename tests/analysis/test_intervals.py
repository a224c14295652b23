"""Bootstrap intervals of ratios of sums."""

from __future__ import annotations

import random

import pytest

from aiflow_cli.analysis.intervals import ratio_interval, speedup_interval, unpaired_ratio_interval
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
    interval = ratio_interval({"long": Ratio(90.0, 90), "short": Ratio(30.0, 10)})
    assert interval is not None
    assert interval.value == 1.2
    assert interval.low <= 1.2 <= interval.high


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


def test_one_image_has_an_interval_without_width() -> None:
    assert ratio_interval({"a": Ratio(3, 2)}) == (1.5, 1.5, 1.5)
