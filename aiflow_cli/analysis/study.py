"""Everything computed from one result, each thing once: curves, baselines, the responses that are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.curves import Curve, curves
from aiflow_cli.analysis.intervals import Interval
from aiflow_cli.analysis.metrics import Metric
from aiflow_cli.analysis.result import Key, Result, Series, link_label
from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import UsageError
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.world.record import Trial


@dataclass(frozen=True)
class Study:
    """A result with what is computed from it. Raises UsageError or StoreError where the result cannot give it."""

    result: Result

    @cached_property
    def curves(self) -> list[Curve]:
        """Device-edge speculation: a curve for each pair and link."""
        found = curves(self.result)
        if not found:
            raise UsageError(f"{self.result.folder} has no speculative trials: measure some with `aiflow sweep`")
        return found

    @cached_property
    def co_located(self) -> list[Curve]:
        """Co-located speculation, where it was measured."""
        return curves(self.result, Method.CO_LOCATED)

    def co_located_of(self, series: Series) -> Curve | None:
        """Co-located speculation of one pair and link, where it was measured."""
        return next((curve for curve in self.co_located if curve.series == series), None)

    def on_device(self, series: Series, metric: Metric = metrics.decode_tpot) -> Interval:
        """The speed-up of the draft model alone. Its output is another one."""
        return self.result.baseline(series).over(self.result.arm(series, Method.ON_DEVICE), metric)

    @property
    def links(self) -> list[LinkSpec]:
        """The links of the curves."""
        return list(dict.fromkeys(curve.series.link for curve in self.curves))

    @property
    def reference_link(self) -> LinkSpec:
        """The link nearest to 1 MB/s without delay, which figures of one link show."""
        return min(self.links, key=lambda link: (link.delay_s, abs(math.log(min(link.uplink_bytes_per_s, 1e12) / 1e6))))

    def over(self, link: LinkSpec, found: Sequence[Curve] | None = None) -> list[Curve]:
        """The curves of one link."""
        return [curve for curve in (self.curves if found is None else found) if curve.series.link == link]

    def by_target(self, found: Sequence[Curve]) -> dict[str, Curve]:
        """The first curve of each target, by its name: pairs of one target share server-only. No name for one alone."""
        firsts: dict[str, Curve] = {}
        for curve in found:
            firsts.setdefault(self.result.target(curve.series.pair), curve)
        return firsts if len(firsts) > 1 else {"": found[0]}

    @property
    def main(self) -> Curve:
        """The first pair's curve over the reference link: what is shown where only one can be."""
        return self.over(self.reference_link)[0]

    def where(self, curve: Curve) -> str:
        """A curve in a sentence: its pair, and its link where there are several."""
        pair, link = curve.series
        return pair if len(self.links) == 1 else f"{pair}, {link_label(link)}"

    @property
    def about_intervals(self) -> str:
        """What is said of brackets, bars and bands."""
        return f"95 % bootstrap intervals over {self.result.everything.resampled}, paired"

    @property
    def about_bars(self) -> str:
        """What is said below a figure about its bars."""
        few = self.main.too_few
        return f"There are no bars and bands ({few})." if few else f"Bars and bands are {self.about_intervals}."

    @cached_property
    def shown(self) -> tuple[Trial | None, Trial]:
        """A typical response of the main curve at its optimum, and server-only's for the same image."""
        series = self.main.series
        trial = typical(self.result.arm(series, Method.SPECULATIVE, self.main.best.gamma).trials)
        same = self.result.baseline(series).of({metrics.unit(trial)}).trials
        return (typical(same) if same else None), trial

    def responses(self, image_id: str | None = None) -> list[Trial]:
        """All responses to one image (the one shown), server-only first. Raises UsageError."""
        wanted = self.shown[1].image_id if image_id is None else image_id
        found = [trial for trial in self.result.trials if trial.image_id == wanted]
        if not found:
            why = f"has no image {wanted!r}: `aiflow plot` without --image takes a typical one"
            raise UsageError(f"{self.result.folder} {why}")
        return sorted(found, key=lambda trial: (Key.of(trial).place, trial.trial))


def typical(trials: Sequence[Trial]) -> Trial:
    """The response with the median latency per token (the lower one of two); the first by name among equals."""
    ordered = sorted(trials, key=lambda trial: (trial.latency_s / trial.n_tokens, trial.trial))
    return ordered[(len(trials) - 1) // 2]
