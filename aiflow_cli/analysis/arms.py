"""The trials of a setting, with what is computed of them: what curves, summaries, claims and figures all read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import cached_property

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.intervals import Interval, images_of, ratio_interval, speedup_interval, too_few
from aiflow_cli.analysis.metrics import Metric, Sums, Unit
from aiflow_cli.world.record import Trial


class Arm:
    """Trials of one setting, and their figures, each computed once, when it is first asked for."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        self.trials = tuple(trials)
        self._sums: dict[Metric, Sums] = {}
        self._intervals: dict[tuple[object, ...], Interval] = {}

    @cached_property
    def units(self) -> frozenset[Unit]:
        """The images, on their nodes and in their sessions."""
        return frozenset(map(metrics.unit, self.trials))

    @property
    def images(self) -> int:
        """How many images it has."""
        return images_of(self.units)

    @property
    def too_few(self) -> str | None:
        """Why nothing of it has an interval, or None."""
        return too_few(self.images)

    @property
    def nodes(self) -> list[str]:
        """The machines that took part."""
        return sorted({unit.node for unit in self.units})

    @property
    def resampled(self) -> str:
        """What its intervals are over: `images`, or `images and 3 sessions`."""
        sessions = len({unit.session for unit in self.units})
        return "images" if sessions < 2 else f"images and {sessions} sessions"

    def of(self, units: Collection[Unit]) -> Arm:
        """What it has of these units."""
        return self if self.units <= set(units) else Arm(t for t in self.trials if metrics.unit(t) in units)

    def sums(self, metric: Metric) -> Sums:
        """A metric's sums by unit."""
        if metric not in self._sums:
            self._sums[metric] = metrics.sums_of(self.trials, metric)
        return self._sums[metric]

    def value(self, metric: Metric) -> float | None:
        """A metric: sum of numerators over sum of denominators; None where that is 0 over 0."""
        over, under = (sum(ratio[part] for ratio in self.sums(metric).values()) for part in (0, 1))
        return over / under if under else None

    def interval(self, metric: Metric) -> Interval:
        """A metric with its interval."""
        return self._once((metric,), lambda: ratio_interval(self.sums(metric)))

    def ms(self, metric: Metric) -> Interval:
        """The same of a time, in milliseconds."""
        return self.interval(metric).times(1e3)

    def over(self, other: Arm, metric: Metric) -> Interval:
        """This metric over another arm's, on the units that both have. Of times over a method's: its speed-up."""
        return self._once((metric, other), lambda: speedup_interval(self.sums(metric), other.sums(metric)))

    def _once(self, key: tuple[object, ...], make: Callable[[], Interval]) -> Interval:
        if key not in self._intervals:
            self._intervals[key] = make()
        return self._intervals[key]
