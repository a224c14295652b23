"""Figures over the draft length, the paper's Figure 6 and speed-up, and what is best over the link."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aiflow_cli.analysis.arms import Arm
from aiflow_cli.analysis.curves import Curve, break_evens
from aiflow_cli.analysis.figures import style
from aiflow_cli.analysis.figures.style import Drawing, Look, Row
from aiflow_cli.analysis.intervals import Interval
from aiflow_cli.analysis.metrics import DEFINITIONS, FORMULAS, decode_tpot
from aiflow_cli.analysis.study import Study
from aiflow_cli.analysis.theory import PAPER_BREAK_EVEN, PAPER_OPTIMUM, format_break_even
from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import UsageError
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.units import format_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = ("decode TPOT", "latency per token")
"""The definitions of time per token that Figure 6 shows."""
ROOM_FOR_LABEL = 10
"""Draft lengths right of the paper's break-even that its label needs; an axis that ends before has it on the left."""


def figure6(study: Study, link: LinkSpec) -> Drawing:
    """Decode TPOT and latency per token against draft length, with server-only, optima and break-evens; one link."""
    curves = study.over(link)
    figure, (*panels, strip) = style.panels(4.1, (1, 1, 0.13))
    for axes, definition in zip(panels, SHOWN, strict=True):
        _draw_times(axes, curves, study.by_target(curves), definition)
    style.name_axes(panels, style.GAMMA_LABEL, *(f"{definition}\n(ms per token)" for definition in SHOWN))
    style.place_legend(figure, panels[0])
    _draw_paper(strip)
    targets = study.by_target(curves).items()
    arms: list[tuple[str, str, int | None, Arm]] = [(name, "server-only", None, c.baseline) for name, c in targets]
    arms += [(c.label, c.method.value, p.gamma, p.arm) for c in curves for p in c.points]
    rows = [
        {"series": series, "method": method, "gamma": gamma, "trials": len(arm.trials)}
        | {f"{d.replace(' ', '_').lower()}_ms": arm.ms(DEFINITIONS[d]) for d in SHOWN}
        for series, method, gamma, arm in arms
    ]
    times = [(c, c.best.arm.ms(decode_tpot).value, c.baseline.ms(decode_tpot).value) for c in curves]
    alt = (
        f"{c.label}: {ms:.2f} ms per token at draft length {c.best.gamma}, server-only {base:.2f} ms"
        for c, ms, base in times
    )
    definitions = "; ".join(f"{definition} = {FORMULAS[definition]}" for definition in SHOWN)
    return Drawing(figure, rows, "; ".join(alt), {"definitions": definitions})


def _draw_times(axes: Axes, curves: Sequence[Curve], targets: dict[str, Curve], definition: str) -> None:
    """Time per token by one definition; the ring and the cross are by that one too."""
    styles, metric = style.looks([curve.series.pair for curve in curves]), DEFINITIONS[definition]
    for target, curve in targets.items():
        style.draw_level(axes, curve.baseline.ms(metric), *style.server_only(target, styles[curve.series.pair]))
    for curve in curves:
        look, y = styles[curve.series.pair], [point.arm.ms(metric) for point in curve.points]
        style.draw_points(axes, curve.gammas, y, look, _legend(curve))
        values, level = [interval.value for interval in y], curve.baseline.ms(metric)
        _mark_optimum(axes, curve.gammas[int(np.argmin(values))], min(values), look)
        crossing = float(break_evens(curve.gammas, level.value / np.array([values]))[0])
        if crossing > 0 and math.isfinite(crossing):
            axes.plot([crossing], [level.value], marker="x", markersize=6, color=look.color, mew=1.3, zorder=5)


def _legend(curve: Curve) -> str:
    crossing, *ends = (format_break_even(number, curve.gammas[-1]) for number in curve.break_even)
    interval = f" [{', '.join(ends)}]" if curve.break_even.known and {*ends} != {crossing} else ""
    return f"{curve.series.pair}: optimum {curve.optimum:.0f}, break-even {crossing}{interval}"


def _mark_optimum(axes: Axes, x: float, y: float, look: Look) -> None:
    """A ring round the optimum."""
    axes.plot([x], [y], marker="o", markersize=7.5, mfc="none", mec=look.color, mew=0.9, zorder=4)


def _draw_paper(axes: Axes) -> None:
    """What the paper states, drawn apart from what was measured; shares the draft-length axis."""
    axes.set_ylim(0, 1)
    axes.grid(False)
    axes.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    words: dict[str, Any] = {"color": style.GREY, "fontsize": 6, "va": "center", "style": "italic"}
    axes.plot([PAPER_OPTIMUM], [0.5], marker="o", markersize=5, mfc="none", color=style.GREY, clip_on=False)
    axes.plot([PAPER_BREAK_EVEN], [0.5], marker="x", markersize=5, color=style.GREY, clip_on=False)
    axes.text(PAPER_OPTIMUM + 0.8, 0.5, "optimum 4, about 2×", ha="left", **words)
    after = axes.get_xlim()[1] - PAPER_BREAK_EVEN > ROOM_FOR_LABEL
    x, side_of_cross = PAPER_BREAK_EVEN + (0.8 if after else -0.8), "left" if after else "right"
    axes.text(x, 0.5, "break-even 22", ha=side_of_cross, **words)
    beside: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate("the paper:", (0, 0.5), (-4, 0), ha="right", **beside, **words)


def speedup(study: Study, link: LinkSpec) -> Drawing:
    """Speed-up over server-only (decode TPOT) against draft length, with the closed form and the other baselines."""
    curves, co_located = study.over(link), study.over(link, study.co_located)
    alone = {c.series.pair: level for c in curves if (level := study.on_device(c.series)).defined}
    figure, (axes, strip) = style.panels(3.1, (1, 0.07))
    styles = style.looks([curve.series.pair for curve in curves])
    axes.axhline(1, color=style.BLACK, linestyle="--", linewidth=1.0, label="server-only")
    for curve in curves:
        look, model, x = styles[curve.series.pair], curve.fit.model, np.linspace(1, curve.gammas[-1], 200)
        style.draw_points(axes, curve.gammas, [p.speedup for p in curve.points], look, curve.series.pair, "dots")
        axes.plot(x, [model.speedup(g) for g in x], color=look.color, linestyle=look.line, linewidth=0.9, zorder=2.5)
        _mark_optimum(axes, curve.optimum.value, curve.best.speedup.value, look)
    for curve in co_located:
        look, label = styles[curve.series.pair], f"{curve.series.pair}, co-located"
        style.draw_points(axes, curve.gammas, [p.speedup for p in curve.points], look, label, "open")
    for pair, level in alone.items():
        style.draw_level(axes, level, f"{pair}, on-device: {level.value:.1f}×", styles[pair].color, ":")
    axes.plot([], [], color=style.GREY, linewidth=0.9, label="closed form, fitted α, c, F")
    style.name_axes([axes], style.GAMMA_LABEL, "speed-up over server-only\n(decode TPOT)")
    top = np.nanmax([Interval(1.1), *(p.speedup for c in (*curves, *co_located) for p in c.points)])
    # a draft alone that lies far above is named in the legend only
    near = [level for level in alone.values() if level.value < 1.5 * top]
    axes.set_ylim(0, 1.1 * float(np.nanmax([Interval(float(top)), *near])))
    style.place_legend(figure, axes, 2)
    _draw_paper(strip)
    alt = (f"{c.label}: {c.best.speedup.value:.2f} times server-only at draft length {c.best.gamma}" for c in curves)
    return Drawing(figure, _speedup_rows(curves, co_located, alone), "; ".join(alt))


def _speedup_rows(curves: Sequence[Curve], co_located: Sequence[Curve], alone: dict[str, Interval]) -> list[Row]:
    rows = [
        {
            "series": c.label,
            "method": c.method.value,
            "gamma": p.gamma,
            "speedup": p.speedup,
            "speedup_latency_per_token": p.speedup_latency,
            "closed_form": c.fit.model.speedup(p.gamma) if c in curves else None,
        }
        for c in (*curves, *co_located)
        for p in c.points
    ]
    return [*rows, *({"series": pair, "method": "on-device", "speedup": level} for pair, level in alone.items())]


class LinkAxis(NamedTuple):
    """What a link figure is drawn against."""

    name: str
    column: str
    label: str
    value: Callable[[LinkSpec], float]


RATE = LinkAxis("rate", "uplink_mb_per_s", "uplink rate (MB/s)", lambda link: link.uplink_bytes_per_s / 1e6)
DELAY = LinkAxis("delay", "delay_ms", "one-way delay (ms)", lambda link: link.delay_s * 1e3)


def link_axis(study: Study) -> LinkAxis:
    """Delay where delays differ, else rate where (finite) rates do. Raises UsageError where neither does."""
    if len({link.delay_s for link in study.links}) > 1:
        return DELAY
    if len({rate for link in study.links if math.isfinite(rate := link.uplink_bytes_per_s)}) > 1:
        return RATE
    raise UsageError(f"{study.result.folder} has one link: `aiflow sweep rates` or `delay` measures several")


def best_over_link(study: Study, _: LinkSpec) -> Drawing:
    """Best draft length, and speed-up there, against rate or delay; co-located speculation hollow."""
    axis, same = link_axis(study), itemgetter("pair", "method", "rate")
    rows = sorted(_link_rows(study, axis), key=lambda row: (same(row), row[axis.column]))
    figure, (top, bottom) = style.panels(3.6, (1, 1))
    lines = {(row["pair"], row["rate"]): ", ".join(filter(None, (row["pair"], row["rate"]))) for row in rows}
    styles, alt = style.looks(list(lines.values())), []
    for (pair, method, rate), group in groupby(rows, same):
        x, best, speedups = zip(*((row[axis.column], row["best_gamma"], row["speedup"]) for row in group), strict=True)
        label, look = ", ".join(filter(None, (pair, method, rate))), styles[lines[pair, rate]]
        joined = method == Method.SPECULATIVE.value
        if joined:
            style.draw_points(top, x, best, look, label)
        style.draw_points(bottom, x, speedups, look, label, "joined" if joined else "open")
        told = zip(x, speedups, best, strict=True)
        alt += [f"{pair}, {method}, {at:g}: {speedup.value:.2f} at {gamma.value:.0f}" for at, speedup, gamma in told]
    bottom.axhline(1, color=style.BLACK, linestyle="--", linewidth=1.0, label="server-only")
    if axis is RATE:
        bottom.set_xscale("log")
        ticks = sorted({row[axis.column] for row in rows})
        bottom.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        bottom.set_xticks([], minor=True)
    style.name_axes((top, bottom), axis.label, "best draft length γ", "speed-up there\n(decode TPOT)")
    style.place_legend(figure, bottom, 2)
    return Drawing(figure, rows, "; ".join(alt), {"axis": axis.name, "against": axis.label.split(" (")[0]})


def _link_rows(study: Study, axis: LinkAxis) -> list[Row]:
    """A row a curve. `rate` tells links apart in a figure over delay."""
    curves = [curve for curve in (*study.curves, *study.co_located) if math.isfinite(axis.value(curve.series.link))]
    several = axis is DELAY and len({curve.series.link.uplink_bytes_per_s for curve in curves}) > 1
    return [
        {
            "pair": c.series.pair,
            "method": c.method.value,
            "rate": format_rate(c.series.link.uplink_bytes_per_s) if several else "",
            axis.column: axis.value(c.series.link),
            "best_gamma": c.optimum,
            "speedup": c.best.speedup,
        }
        for c in curves
    ]
