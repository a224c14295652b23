"""The figure over the link: the best draft length and the speed-up there, against rate or delay."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from aiflow_cli.analysis.figures import style
from aiflow_cli.analysis.figures.style import Drawing
from aiflow_cli.analysis.intervals import Interval
from aiflow_cli.analysis.study import Study
from aiflow_cli.decoding.methods import Method
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.units import format_rate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LinkAxis(NamedTuple):
    """What a link figure is drawn against."""

    name: str
    column: str
    label: str
    value: Callable[[LinkSpec], float]


RATE = LinkAxis("rate", "uplink_mb_per_s", "uplink rate (MB/s)", lambda link: link.uplink_bytes_per_s / 1e6)
DELAY = LinkAxis("delay", "delay_ms", "one-way delay (ms)", lambda link: link.delay_s * 1e3)


def axis_of(links: Sequence[LinkSpec]) -> LinkAxis | None:
    """Delay where delays differ, else rate where (finite) rates do, else None."""
    if len({link.delay_s for link in links}) > 1:
        return DELAY
    rates = {link.uplink_bytes_per_s for link in links if math.isfinite(link.uplink_bytes_per_s)}
    return RATE if len(rates) > 1 else None


class LinkPoint(NamedTuple):
    """The best draft length of one pair and method over one link. `rate` tells links apart in a figure over delay."""

    pair: str
    method: str
    rate: str
    x: float
    best_gamma: Interval
    speedup: Interval


def best_over_link(study: Study, axis: LinkAxis) -> Drawing:
    """Best draft length, and speed-up there, against rate or delay; co-located speculation hollow."""
    curves = [curve for curve in (*study.curves, *study.co_located) if math.isfinite(axis.value(curve.series.link))]
    several = axis is DELAY and len({curve.series.link.uplink_bytes_per_s for curve in curves}) > 1
    points = []
    for c in curves:
        rate = format_rate(c.series.link.uplink_bytes_per_s) if several else ""
        x = axis.value(c.series.link)
        points.append(LinkPoint(c.series.pair, c.method.value, rate, x, c.optimum, c.best.speedup))
    points.sort(key=lambda p: p[:4])
    return Drawing(
        name=f"best-{axis.name}",
        title=f"Best draft length and speed-up against {axis.name}",
        caption=(
            "Above: the draft length of the lowest decode TPOT among those measured, against the "
            f"{axis.label.split(' (', maxsplit=1)[0]}. Below: the speed-up over server-only there, and of co-located "
            f"speculation at its own best draft length. {study.about_bars}"
        ),
        alt="; ".join(
            f"{p.pair}, {p.method}, {p.x:g}: {p.speedup.value:.2f} at {p.best_gamma.value:.0f}" for p in points
        ),
        figure=_draw(points, axis),
        rows=[{axis.column if name == "x" else name: v for name, v in p._asdict().items()} for p in points],
    )


def _draw(points: Sequence[LinkPoint], axis: LinkAxis) -> Figure:
    figure, (top, bottom) = style.panels(3.6, (1, 1))
    styles = style.looks(list(dict.fromkeys(p.pair for p in points)))
    for which in dict.fromkeys(p[:3] for p in points):
        mine = [p for p in points if p[:3] == which]
        x, look, label = [p.x for p in mine], styles[which[0]], ", ".join(filter(None, which))
        device_edge = which[1] == Method.SPECULATIVE.value
        if device_edge:
            style.draw_points(top, x, [p.best_gamma for p in mine], look, label)
        style.draw_points(bottom, x, [p.speedup for p in mine], look, label, "joined" if device_edge else "open")
    bottom.axhline(1, color=style.BLACK, linestyle="--", linewidth=1.0, label="server-only")
    if axis is RATE:
        bottom.set_xscale("log")
        ticks = sorted({p.x for p in points})
        bottom.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        bottom.set_xticks([], minor=True)
    style.name_axes((top, bottom), axis.label, "best draft length γ", "speed-up there\n(decode TPOT)")
    style.place_legend(figure, bottom, 2)
    return figure
