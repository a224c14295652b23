"""Bootstrap intervals of ratios of sums, by resampling images.

Images are the unit: trials of one image share its caption and its time of day. A comparison resamples the same images in both arms (paired),
so what makes an image slow cancels. Percentile intervals, seeded. (`scipy.stats.bootstrap` calls its statistic with a loop over resamples
where the paired statistic is no plain axis reduction; the sums here are one matrix product.)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aiflow_cli.analysis.metrics import Ratio

RESAMPLES = 2000
CONFIDENCE = 0.95
_SEED = 20241119
Array = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def ratio_interval(sums: Mapping[str, Ratio]) -> Interval | None:
    """A ratio of sums over images with its interval; None where it is not defined, ends equal to the value for a single image."""
    over, under = _arrays(sums, sorted(sums))
    if not under.sum():
        return None
    weights = resample_counts(len(over))
    return percentiles(over.sum() / under.sum(), divide(weights @ over, weights @ under))


def speedup_interval(baseline: Mapping[str, Ratio], method: Mapping[str, Ratio]) -> Interval | None:
    """Ratio of `baseline` to `method` (each a ratio of sums), over the images that both have; None where it is not defined."""
    images = sorted(set(baseline) & set(method))
    base_over, base_under = _arrays(baseline, images)
    over, under = _arrays(method, images)
    if not images or not base_under.sum() or not under.sum() or not over.sum():
        return None
    weights = resample_counts(len(images))
    sample = divide(divide(weights @ base_over, weights @ base_under), divide(weights @ over, weights @ under))
    return percentiles((base_over.sum() / base_under.sum()) / (over.sum() / under.sum()), sample)


def unpaired_ratio_interval(over: Mapping[str, Ratio], under: Mapping[str, Ratio]) -> Interval | None:
    """Ratio of two ratios of sums whose images have nothing to do with each other: each is resampled by itself."""
    parts = []
    for sums, order in ((over, slice(None)), (under, slice(None, None, -1))):
        a, b = _arrays(sums, sorted(sums))
        if not a.sum() or not b.sum():
            return None
        weights = resample_counts(len(a))[order]
        parts.append((a.sum() / b.sum(), divide(weights @ a, weights @ b)))
    (value, sample), (other, other_sample) = parts
    return percentiles(value / other, divide(sample, other_sample))


def _arrays(sums: Mapping[str, Ratio], images: list[str]) -> tuple[Array, Array]:
    return np.array([sums[i].over for i in images], float), np.array([sums[i].under for i in images], float)


@lru_cache(maxsize=4)
def resample_counts(n: int) -> Array:
    """How often each of n images is drawn in each resample: [RESAMPLES, n]."""
    return np.random.default_rng(_SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(float)


def divide(a: Array, b: Array) -> Array:
    """a / b, NaN where b is 0."""
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b != 0)


def percentiles(value: float, sample: Array) -> Interval:
    """A value with the 95 % percentile interval of its bootstrap sample."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(sample, [tail, 100 - tail])
    return Interval(float(value), float(low), float(high))
