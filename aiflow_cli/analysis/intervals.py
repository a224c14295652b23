"""Bootstrap intervals of ratios of sums, by resampling images and, where a result has several, sessions.

Images are the unit: trials of one image share its caption and its time of day. A comparison resamples the same images
in both arms (paired), so what makes an image slow cancels. Seeded. (`scipy.stats.bootstrap` would loop over resamples;
the sums here are one matrix product.)

The method: percentiles whose tails are as far out as those of a t distribution with n - 1 degrees of freedom ("expanded
percentiles", Hesterberg, The American Statistician 69, 2015), one method for ratios, fits, optima and break-evens. It
was chosen by how often such an interval holds the value of all images, which tests/analysis/test_coverage.py measures:
from 10 images on within two points of 95 %. That is FEWEST_IMAGES; with fewer there is a value and no interval. What no
method covers is a figure that hangs on what is rare, as the failures of a draft that fails on a few images only.

Sessions (`sessions = N` in a spec: processes started anew, the same images again) are few, and a machine wanders
between them, so resampling them would be too narrow: of three, each drawn with replacement, one resample in nine has
but one. Images are drawn once for all sessions, since it is the same ones that come again, and each value gets the
deviations of the sessions' own values from their mean, weighted at random such that for a mean this is exactly the t
interval with N - 1 degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from aiflow_cli.analysis.metrics import Sums, Unit

RESAMPLES = 2000
CONFIDENCE = 0.95
FEWEST_IMAGES = 10
"""An interval needs this many images; with fewer there is a value alone, and no verdict."""
_SEED = 20241119
Array = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A value with the ends of its 95 % interval: NaN where there is none, all of it where nothing is defined.

    Formats as `1.8 [1.7, 1.9]`, as `1.8` without an interval, as `-` without a value.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @property
    def defined(self) -> bool:
        """Whether there is a value."""
        return not math.isnan(self.value)

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not math.isnan(self.low)

    def times(self, factor: float) -> Interval:
        """The same in another unit."""
        return Interval(*(factor * number for number in self))

    def as_json(self, name: str, ci: str | None = None) -> dict[str, float | list[float] | None]:
        """Value and ends by their names in JSON (`name`, `name_ci`); null where there are none."""
        ends = [self.low, self.high] if self.known else None
        return {name: self.value if self.defined else None, ci or f"{name}_ci": ends}

    def __format__(self, spec: str) -> str:
        """Value and ends by one specification."""
        value, low, high = (format(number, spec) for number in self)
        return "-" if not self.defined else f"{value} [{low}, {high}]" if self.known else value


def too_few(images: int) -> str | None:
    """Why there is no interval and no verdict; None where there are images enough."""
    if images >= FEWEST_IMAGES:
        return None
    s = "" if images == 1 else "s"
    return f"{images} image{s}: too few for an interval, which needs at least {FEWEST_IMAGES}"


def images_of(units: Collection[Unit]) -> int:
    """How many images units are of: the same one in another session is no further one."""
    return len({unit.image for unit in units})


class Chance(NamedTuple):
    """Which draws a sample uses: samples are drawn alike in what they have in common, and apart in the rest."""

    images: int = 0
    sessions: int = 0


USUAL = Chance()


def sample(units: Sequence[Unit], statistic: Callable[[Array], Array], chance: Chance = USUAL) -> Array:
    """A statistic of units as they are (the first row), then of each resample of them; no resamples of too few images.

    `statistic` gets weights [rows, units] and gives values [rows, ...]. An image has the same weight in all sessions.
    Sessions add to each value the deviations of their own values from the mean one, drawn as a t distribution has it.
    """
    images = sorted({unit.image for unit in units})
    place = {image: number for number, image in enumerate(images)}
    counts = resample_counts(len(images), chance.images)
    weights = np.vstack([np.ones(len(images)), counts])[:, [place[unit.image] for unit in units]]
    values = statistic(weights)
    sessions = np.unique(own := np.array([unit.session for unit in units]))
    if len(sessions) > 1 and len(counts):
        apart = statistic((own == sessions[:, None]).astype(float))
        draws = _session_draws(len(sessions), chance.sessions)
        if (apart > 0).all():  # as factors, so that no time turns negative
            values[1:] *= np.exp(np.tensordot(draws, np.log(apart) - np.log(apart).mean(0), 1))
        else:
            values[1:] += np.tensordot(draws, apart - apart.mean(0), 1)
    return values


@lru_cache(maxsize=8)
def resample_counts(n: int, seed: int = 0) -> Array:
    """How often each of n images is drawn in each resample: [RESAMPLES, n]; no resamples of too few images."""
    resamples = RESAMPLES if n >= FEWEST_IMAGES else 0
    return np.random.default_rng(_SEED + seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)


@lru_cache(maxsize=8)
def _session_draws(n: int, seed: int) -> Array:
    """Factors of n deviations from a mean, [RESAMPLES, n]: their sums are t distributed as the mean's error is."""
    rng = np.random.default_rng(_SEED + 1000 + seed)
    normal, spread = rng.standard_normal((RESAMPLES, n)), rng.chisquare(n - 1, (RESAMPLES, 1)) / (n - 1)
    return np.asarray(normal / np.sqrt(n * (n - 1) * spread), float)


def columns(sums: Sums, units: Sequence[Unit]) -> tuple[Array, Array]:
    """Numerators and denominators of units; 0 for one that is not there."""
    found = np.array([sums.get(unit, (0.0, 0.0)) for unit in units], float).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def ratio_sample(sums: Sums, units: Sequence[Unit], chance: Chance = USUAL) -> Array:
    """A ratio of sums over units, then over each resample of them."""
    over, under = columns(sums, units)
    return sample(units, lambda weights: divide(weights @ over, weights @ under), chance)


def defined(sums: Sums) -> list[Unit]:
    """The units that tell something of a ratio."""
    return sorted(unit for unit, ratio in sums.items() if ratio.under)


def ratio_interval(sums: Sums) -> Interval:
    """A ratio of sums with its interval. Images that add nothing below do not count."""
    units = defined(sums)
    return percentiles(ratio_sample(sums, units), images_of(units)) if units else Interval()


def speedup_interval(baseline: Sums, method: Sums) -> Interval:
    """Ratio of two ratios of sums, paired: over the units that both have."""
    units = sorted({*defined(baseline)} & {*defined(method)})
    return _quotient(baseline, units, method, units)


def apart_interval(over: Sums, under: Sums, chance: Chance) -> Interval:
    """Ratio of two ratios of sums that are resampled each by itself, the second with the draws of `chance`."""
    return _quotient(over, defined(over), under, defined(under), chance)


def _quotient(over: Sums, units: list[Unit], under: Sums, others: list[Unit], chance: Chance = USUAL) -> Interval:
    if not units or not columns(under, others)[0].sum():
        return Interval()
    fewer = min(images_of(units), images_of(others))
    samples = ratio_sample(over, units), ratio_sample(under, others, chance)
    if too_few(fewer):
        samples = samples[0][:1], samples[1][:1]
    return percentiles(divide(*samples), fewer)


def divide(a: Array, b: Array) -> Array:
    """a / b, NaN where b is 0."""
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b != 0)


def percentiles(values: Array, images: int, method: Literal["linear", "nearest"] = "linear") -> Interval:
    """A value (the first) with the interval of its resamples; without one if images are too few or nothing defined."""
    from scipy.stats import norm, t

    value, resamples = float(values[0]), values[1:]
    if images < FEWEST_IMAGES or np.isnan(resamples).all():
        return Interval(value)
    # tails such that a mean has the ends of its t interval
    tail = 100 * norm.cdf(-t.ppf((1 + CONFIDENCE) / 2, images - 1) * math.sqrt(images / (images - 1)))
    low, high = np.nanpercentile(resamples, [tail, 100 - tail], method=method)
    return Interval(value, float(low), float(high))
