"""Figures over the link: the best draft length and the speed-up there, against rate or delay."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from aiflow_cli.analysis.curves import Curve
from aiflow_cli.analysis.intervals import Interval
from aiflow_cli.analysis.style import BLACK, Table, draw_points, looks, new_figure, place_legend
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.units import format_rate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LinkAxis(NamedTuple):
    """What a link figure is drawn against."""

    name: str
    label: str
    value: Callable[[LinkSpec], float]
    log: bool


RATE = LinkAxis("rate", "uplink rate (MB/s)", lambda link: link.uplink_bytes_per_s / 1e6, True)
DELAY = LinkAxis("delay", "one-way delay (ms)", lambda link: link.delay_s * 1e3, False)


def axis_of(links: Sequence[LinkSpec]) -> LinkAxis | None:
    """Delay where delays differ, else rate where (finite) rates do, else None."""
    if len({link.delay_s for link in links}) > 1:
        return DELAY
    rates = {link.uplink_bytes_per_s for link in links if math.isfinite(link.uplink_bytes_per_s)}
    return RATE if len(rates) > 1 else None


@dataclass(frozen=True)
class LinkPoint:
    """The best draft length of one pair and method over one link. `fixed`: the speed-up at the draft length that is best without delay."""

    pair: str
    method: str
    other: str
    """What else tells this link from others: its rate in a figure over delay."""
    x: float
    optimum: Interval
    speedup: Interval


def link_points(curves: Sequence[Curve], axis: LinkAxis) -> list[LinkPoint]:
    """A point for each curve, in the order of the axis."""
    rates = {curve.series.link.uplink_bytes_per_s for curve in curves}
    points = [
        LinkPoint(
            pair=curve.series.pair,
            method=curve.method,
            other=format_rate(curve.series.link.uplink_bytes_per_s) if axis is DELAY and len(rates) > 1 else "",
            x=axis.value(curve.series.link),
            optimum=curve.optimum,
            speedup=curve.best.speedup,
        )
        for curve in curves
    ]
    return sorted((p for p in points if math.isfinite(p.x)), key=lambda p: (p.pair, p.method, p.other, p.x))


def over_link(points: Sequence[LinkPoint], axis: LinkAxis) -> Figure:
    """Best draft length, and speed-up there, against rate or delay; co-located speculation hollow."""
    figure = new_figure(3.6)
    top, bottom = figure.subplots(2, 1, sharex=True)
    styles = looks(list(dict.fromkeys(p.pair for p in points)))
    for pair, method, other in dict.fromkeys((p.pair, p.method, p.other) for p in points):
        mine = [p for p in points if (p.pair, p.method, p.other) == (pair, method, other)]
        x, look, label = [p.x for p in mine], styles[pair], ", ".join(filter(None, (pair, method, other)))
        style = "joined" if method == "speculative" else "open"
        if method == "speculative":
            draw_points(top, x, [p.optimum for p in mine], look, label, style)
        draw_points(bottom, x, [p.speedup for p in mine], look, label, style)
    bottom.axhline(1, color=BLACK, linestyle="--", linewidth=1.0, label="server-only")
    if axis.log:
        bottom.set_xscale("log")
        ticks = sorted({p.x for p in points})
        bottom.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        bottom.set_xticks([], minor=True)
    top.set_ylim(bottom=0)
    top.set_ylabel("best draft length γ")
    bottom.set_ylim(bottom=0)
    bottom.set_ylabel("speed-up there\n(decode TPOT)")
    bottom.set_xlabel(axis.label)
    place_legend(figure, bottom, 2)
    return figure


def over_link_table(points: Sequence[LinkPoint], axis: LinkAxis) -> Table:
    """The data of `over_link`."""
    x = "uplink_mb_per_s" if axis is RATE else "delay_ms"
    columns = (
        "pair",
        "method",
        "rate",
        x,
        "best_gamma",
        "best_gamma_low",
        "best_gamma_high",
        "speedup",
        "speedup_low",
        "speedup_high",
    )
    return Table(columns, [(p.pair, p.method, p.other, p.x, *p.optimum, *p.speedup) for p in points])
