"""Figures over the draft length: the paper's Figure 6, and speed-up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aiflow_cli.analysis.curves import Curve, break_evens, format_break_even
from aiflow_cli.analysis.intervals import Interval
from aiflow_cli.analysis.style import (
    BLACK,
    GREY,
    Look,
    Table,
    draw_level,
    draw_points,
    looks,
    new_figure,
    place_legend,
    span,
)
from aiflow_cli.analysis.theory import PAPER_BREAK_EVEN, PAPER_OPTIMUM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAMMA_LABEL = "draft length γ (tokens)"


def figure6(curves: Sequence[Curve]) -> Figure:
    """Decode TPOT and latency per token against draft length, with server-only, optima and break-evens; one link."""
    from matplotlib.gridspec import GridSpec

    figure = new_figure(4.1)
    grid = GridSpec(3, 1, figure, height_ratios=(1, 1, 0.13))
    top = figure.add_subplot(grid[0])
    bottom = figure.add_subplot(grid[1], sharex=top)
    _panel(top, curves, "decode TPOT")
    _panel(bottom, curves, "latency per token")
    top.tick_params(labelbottom=False)
    bottom.set_xlabel(GAMMA_LABEL)
    top.set_ylabel("decode TPOT\n(ms per token)")
    bottom.set_ylabel("latency per token\n(ms per token)")
    place_legend(figure, top)
    paper_strip(figure.add_subplot(grid[2], sharex=top))
    return figure


def _panel(axes: Axes, curves: Sequence[Curve], metric: str) -> None:
    styles = looks([curve.series.pair for curve in curves])
    baseline = curves[0].baseline
    level = baseline.decode_tpot_ms if metric == "decode TPOT" else baseline.latency_per_token_ms
    draw_level(axes, level, "server-only")
    for curve in curves:
        look = styles[curve.series.pair]
        y = [p.decode_tpot_ms if metric == "decode TPOT" else p.latency_per_token_ms for p in curve.points]
        draw_points(axes, curve.gammas, y, look, _legend(curve))
        lowest = min(range(len(y)), key=lambda place: y[place].value)
        mark_optimum(axes, curve.gammas[lowest], y[lowest].value, look)
        speedups = np.array([[level.value / interval.value for interval in y]])
        mark_break_even(axes, float(break_evens(np.array(curve.gammas), speedups)[0]), level.value, look)
    axes.set_ylim(bottom=0)


def _legend(curve: Curve) -> str:
    last = curve.gammas[-1]
    crossing, *ends = (format_break_even(number, last) for number in curve.break_even)
    interval = f" [{', '.join(ends)}]" if curve.break_even.known and {*ends} != {crossing} else ""
    return f"{curve.series.pair}: optimum {curve.optimum:.0f}, break-even {crossing}{interval}"


def mark_optimum(axes: Axes, x: float, y: float, look: Look) -> None:
    """A ring round the optimum."""
    axes.plot(
        [x],
        [y],
        marker="o",
        markersize=7.5,
        markerfacecolor="none",
        markeredgecolor=look.color,
        markeredgewidth=0.9,
        zorder=4,
    )


ROOM_FOR_LABEL = 10
"""Draft lengths right of the paper's break-even that its label needs; an axis that ends before has it on the left."""


def mark_break_even(axes: Axes, x: float, level: float, look: Look) -> None:
    """A cross where a curve meets server-only, if it does."""
    if x > 0 and math.isfinite(x):
        axes.plot([x], [level], marker="x", markersize=6, color=look.color, markeredgewidth=1.3, zorder=5)


def paper_strip(axes: Axes) -> None:
    """What the paper states, drawn apart from what was measured; shares the draft-length axis."""
    axes.set_ylim(0, 1)
    axes.grid(False)
    axes.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False)
    for side in axes.spines.values():
        side.set_visible(False)
    style: dict[str, Any] = {"color": GREY, "fontsize": 6, "va": "center", "style": "italic"}
    axes.plot([PAPER_OPTIMUM], [0.5], marker="o", markersize=5, markerfacecolor="none", color=GREY, clip_on=False)
    axes.plot([PAPER_BREAK_EVEN], [0.5], marker="x", markersize=5, color=GREY, clip_on=False)
    axes.text(PAPER_OPTIMUM + 0.8, 0.5, "optimum 4, about 2×", ha="left", **style)
    after = axes.get_xlim()[1] - PAPER_BREAK_EVEN > ROOM_FOR_LABEL
    side_of_cross = 0.8 if after else -0.8
    axes.text(PAPER_BREAK_EVEN + side_of_cross, 0.5, "break-even 22", ha="left" if after else "right", **style)
    axes.annotate(
        "the paper:", (0, 0.5), (-4, 0), xycoords="axes fraction", textcoords="offset points", ha="right", **style
    )


def figure6_table(curves: Sequence[Curve]) -> Table:
    """The data of `figure6`."""
    columns = ("series", "method", "gamma", "trials", *_columns("decode_tpot_ms"), *_columns("latency_per_token_ms"))
    base = curves[0].baseline
    rows: list[tuple[object, ...]] = [
        ("", "server-only", None, base.trials, *base.decode_tpot_ms, *base.latency_per_token_ms),
        *(
            (c.label, c.method, p.gamma, p.trials, *p.decode_tpot_ms, *p.latency_per_token_ms)
            for c in curves
            for p in c.points
        ),
    ]
    return Table(columns, rows)


def _columns(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


def speedup(curves: Sequence[Curve], co_located: Sequence[Curve], on_device: Sequence[tuple[str, Interval]]) -> Figure:
    """Speed-up over server-only (decode TPOT) against draft length, with the closed form through the fitted alpha, c, F, and the
    other baselines: co-located speculation, and the draft alone (`on_device`: pair and its speed-up; another output), which the legend
    names where it lies above the panel."""
    from matplotlib.gridspec import GridSpec

    figure = new_figure(3.1)
    grid = GridSpec(2, 1, figure, height_ratios=(1, 0.07))
    axes = figure.add_subplot(grid[0])
    styles = looks([curve.series.pair for curve in curves])
    axes.axhline(1, color=BLACK, linestyle="--", linewidth=1.0, label="server-only")
    for curve in curves:
        look = styles[curve.series.pair]
        draw_points(axes, curve.gammas, [p.speedup for p in curve.points], look, curve.series.pair, "dots")
        x = np.linspace(1, curve.gammas[-1], 200)
        model = curve.fit.model
        axes.plot(x, [model.speedup(g) for g in x], color=look.color, linestyle=look.line, linewidth=0.9, zorder=2.5)
        mark_optimum(axes, curve.optimum.value, curve.best.speedup.value, look)
    for curve in co_located:
        look, label = styles[curve.series.pair], f"{curve.series.pair}, co-located"
        draw_points(axes, curve.gammas, [p.speedup for p in curve.points], look, label, "open")
    for pair, level in on_device:
        draw_level(axes, level, f"{pair}, on-device: {level.value:.1f}×", styles[pair].color, ":")
    axes.plot([], [], color=GREY, linewidth=0.9, label="closed form, fitted α, c, F")
    _, top = span([Interval(1.1), *(p.speedup for c in (*curves, *co_located) for p in c.points)]) or (0, 1.1)
    near = [level for _, level in on_device if level.value < 1.5 * top]
    _, top = span([Interval(top), *near]) or (0, top)
    axes.set_ylim(0, 1.1 * top)
    axes.set_ylabel("speed-up over server-only\n(decode TPOT)")
    axes.set_xlabel(GAMMA_LABEL)
    place_legend(figure, axes, 2)
    paper_strip(figure.add_subplot(grid[1], sharex=axes))
    return figure


def speedup_table(
    curves: Sequence[Curve], co_located: Sequence[Curve], on_device: Sequence[tuple[str, Interval]]
) -> Table:
    """The data of `speedup`; `closed_form` is S(gamma) with the fitted values."""
    columns = ("series", "method", "gamma", *_columns("speedup"), *_columns("speedup_latency_per_token"), "closed_form")
    rows: list[tuple[object, ...]] = [
        (
            c.label,
            c.method,
            p.gamma,
            *p.speedup,
            *p.speedup_latency,
            c.fit.model.speedup(p.gamma) if c in curves else None,
        )
        for c in (*curves, *co_located)
        for p in c.points
    ]
    rows += [(pair, "on-device", None, *level, None, None, None, None) for pair, level in on_device]
    return Table(columns, rows)
