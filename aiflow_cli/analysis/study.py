"""Everything computed from one result, each thing once: curves, baselines, the responses that are shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.curves import Curve, curves
from aiflow_cli.analysis.figures_waterfall import typical
from aiflow_cli.analysis.intervals import Interval, speedup_interval
from aiflow_cli.analysis.metrics import Metric, Record
from aiflow_cli.analysis.result import CO_LOCATED, ON_DEVICE, SPECULATIVE, Result, Series
from aiflow_cli.analysis.summary import BASELINE
from aiflow_cli.errors import UsageError
from aiflow_cli.link.spec import LinkSpec


@dataclass(frozen=True)
class Study:
    """A result with what is computed from it. Properties raise UsageError or StoreError where the result cannot give them."""

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
        return curves(self.result, CO_LOCATED)

    def on_device(self, series: Series, metric: Metric = metrics.decode_tpot) -> Interval | None:
        """The speed-up of the draft model alone over server-only; None where it was not measured. Its output is another one."""
        records = self.result.trials(series, ON_DEVICE)
        base = self.result.trials(series, BASELINE)
        return speedup_interval(metrics.by_image(base, metric), metrics.by_image(records, metric)) if records else None

    @property
    def links(self) -> list[LinkSpec]:
        """The links of the curves."""
        return list(dict.fromkeys(curve.series.link for curve in self.curves))

    @property
    def reference_link(self) -> LinkSpec:
        """The link of figures that show one."""
        link = self.result.reference_link
        return link if link in self.links else self.links[0]

    def over(self, link: LinkSpec, found: list[Curve] | None = None) -> list[Curve]:
        """The curves of one link."""
        return [curve for curve in (self.curves if found is None else found) if curve.series.link == link]

    @property
    def main(self) -> Curve:
        """The first pair's curve over the reference link: what is shown where only one can be."""
        return self.over(self.reference_link)[0]

    @cached_property
    def shown(self) -> tuple[Record | None, Record]:
        """A typical response of the main curve at its optimum, and server-only's for the same image."""
        series = self.main.series
        record = typical(self.result.trials(series, SPECULATIVE, self.main.best.gamma))
        same = [r for r in self.result.trials(series, BASELINE) if metrics.unit(r) == metrics.unit(record)]
        return (typical(same) if same else None), record

    def responses(self, image_id: str | None = None) -> list[Record]:
        """All responses to one image (the one shown), server-only first, then by pair, method and draft length. Raises UsageError."""
        wanted = self.shown[1]["image_id"] if image_id is None else image_id
        found = [r for r in self.result.records if r["image_id"] == wanted]
        if not found:
            raise UsageError(
                f"{self.result.folder} has no image {wanted!r}: `aiflow plot` without --image takes a typical one"
            )
        return sorted(
            found, key=lambda r: (r["method"] != BASELINE, r["pair"], r["method"], r["gamma"] or 0, r["trial"])
        )
