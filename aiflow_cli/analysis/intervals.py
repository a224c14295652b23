"""Bootstrap intervals of ratios of sums, by resampling images.

Images are the unit: trials of one image share its caption and its time of day. A comparison resamples the same images in both arms (paired),
so what makes an image slow cancels. Seeded. (`scipy.stats.bootstrap` calls its statistic with a loop over resamples where the paired
statistic is no plain axis reduction; the sums here are one matrix product.)

The method: percentiles whose tails are as far out as those of a t distribution with n - 1 degrees of freedom ("expanded percentiles",
Hesterberg, The American Statistician 69, 2015), one method for ratios, fits, optima and break-evens. It was chosen by coverage: how often an
interval from n images of the reference run, drawn at random, holds the value of all of them (tests/analysis/test_coverage.py; nominal 95 %).
Paired speed-ups of `small-weak`, mean over draft lengths, as `python -m tests.analysis.test_coverage` prints them:

    images                                    4     8     10    16    40
    percentiles                               77 %  85 %  88 %  91 %  93 %
    BCa (`scipy.stats.bootstrap`)             77 %  84 %  86 %  90 %  92 %
    expanded percentiles                      84 %  92 %  93 %  94 %  94 %
    t, of the logarithm, by the jackknife     94 %  94 %  95 %  95 %  95 %

t covers as well, but knows neither optima nor break-evens, nor that no share exceeds 1. From 10 images on coverage is within two points of
95 % for both pairs (`small` up to draft length 8); that is FEWEST_IMAGES, and with fewer there is a value and no interval. What no method
covers is a figure that hangs on what is rare: of `small`, whose drafts fail on a few images only, speed-ups at draft lengths of 16 and more
are covered in 86 % at 10 images, in 85 % at 16, in 91 % at 40.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from aiflow_cli.analysis.metrics import Ratio

RESAMPLES = 2000
CONFIDENCE = 0.95
FEWEST_IMAGES = 10
"""An interval needs this many images; with fewer there is a value alone, and no verdict."""
_SEED = 20241119
Array = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A value with the ends of its 95 % interval; the ends are NaN where there is none (too few images). Formats as `1.8 [1.7, 1.9]`."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not math.isnan(self.low)

    @property
    def ends(self) -> list[float] | None:
        """The ends as JSON has them: null where there is no interval."""
        return [self.low, self.high] if self.known else None

    def times(self, factor: float) -> Interval:
        """The same in another unit."""
        return Interval(*(factor * number for number in self))

    def __format__(self, spec: str) -> str:
        """Value and ends by one specification; the value alone where there is no interval, `-` where there is no value either."""
        value, low, high = (format(number, spec) for number in self)
        return "-" if math.isnan(self.value) else f"{value} [{low}, {high}]" if self.known else value


def too_few(images: int) -> str | None:
    """Why there is no interval and no verdict; None where there are images enough."""
    if images >= FEWEST_IMAGES:
        return None
    return f"{images} image{'' if images == 1 else 's'}: too few for an interval, which needs at least {FEWEST_IMAGES}"


def ratio_interval(sums: Mapping[str, Ratio]) -> Interval | None:
    """A ratio of sums over images with its interval; None where it is not defined. Images that add nothing below do not count."""
    over, under = _arrays(sums, sorted(image for image in sums if sums[image].under))
    if not len(over):
        return None
    weights = resample_counts(len(over))
    return percentiles(over.sum() / under.sum(), divide(weights @ over, weights @ under), len(over))


def common_images(first: Mapping[str, Ratio], second: Mapping[str, Ratio]) -> list[str]:
    """The images over which two ratios of sums can be compared in pairs."""
    return sorted(image for image in set(first) & set(second) if first[image].under and second[image].under)


def speedup_interval(baseline: Mapping[str, Ratio], method: Mapping[str, Ratio]) -> Interval | None:
    """Ratio of `baseline` to `method` (each a ratio of sums), over the images that both have; None where it is not defined."""
    images = common_images(baseline, method)
    base_over, base_under = _arrays(baseline, images)
    over, under = _arrays(method, images)
    if not over.sum():
        return None
    weights = resample_counts(len(images))
    sample = divide(divide(weights @ base_over, weights @ base_under), divide(weights @ over, weights @ under))
    return percentiles((base_over.sum() / base_under.sum()) / (over.sum() / under.sum()), sample, len(images))


def unpaired_ratio_interval(over: Mapping[str, Ratio], under: Mapping[str, Ratio]) -> Interval | None:
    """Ratio of two ratios of sums whose images have nothing to do with each other: each is resampled by itself."""
    parts = []
    for sums, order in ((over, slice(None)), (under, slice(None, None, -1))):
        a, b = _arrays(sums, sorted(image for image in sums if sums[image].under))
        if not a.sum():
            return None
        weights = resample_counts(len(a))[order]
        parts.append((len(a), a.sum() / b.sum(), divide(weights @ a, weights @ b)))
    (images, value, sample), (other_images, other, other_sample) = parts
    if too_few(fewer := min(images, other_images)):
        return Interval(float(value / other))
    return percentiles(value / other, divide(sample, other_sample), fewer)


def _arrays(sums: Mapping[str, Ratio], images: list[str]) -> tuple[Array, Array]:
    return np.array([sums[i].over for i in images], float), np.array([sums[i].under for i in images], float)


@lru_cache(maxsize=4)
def resample_counts(n: int) -> Array:
    """How often each of n images is drawn in each resample: [RESAMPLES, n]; no resamples of too few images."""
    resamples = RESAMPLES if n >= FEWEST_IMAGES else 0
    return np.random.default_rng(_SEED).multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)


def divide(a: Array, b: Array) -> Array:
    """a / b, NaN where b is 0."""
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b != 0)


def percentiles(value: float, sample: Array, images: int, method: Literal["linear", "nearest"] = "linear") -> Interval:
    """A value with the interval of its bootstrap sample over so many images; without one if they are too few, or nothing was defined."""
    if images < FEWEST_IMAGES or np.isnan(sample).all():
        return Interval(float(value))
    tail = 100 * _tail(images)
    low, high = np.nanpercentile(sample, [tail, 100 - tail], method=method)
    return Interval(float(value), float(low), float(high))


@lru_cache
def _tail(images: int) -> float:
    """The share of a bootstrap distribution to be left out at either end, so that a mean would have the ends of its t interval."""
    from scipy.stats import norm, t

    quantile = t.ppf((1 + CONFIDENCE) / 2, images - 1)
    return float(norm.cdf(-quantile * math.sqrt(images / (images - 1))))
