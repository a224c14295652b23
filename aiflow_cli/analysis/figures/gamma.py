"""Figures over the draft length: the paper's Figure 6, and speed-up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aiflow_cli.analysis.curves import Curve, break_evens
from aiflow_cli.analysis.figures import style
from aiflow_cli.analysis.figures.style import Drawing, Look
from aiflow_cli.analysis.intervals import Interval
from aiflow_cli.analysis.metrics import FORMULAS
from aiflow_cli.analysis.result import link_label
from aiflow_cli.analysis.study import Study
from aiflow_cli.analysis.theory import PAPER_BREAK_EVEN, PAPER_OPTIMUM, format_break_even
from aiflow_cli.link.spec import LinkSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAMMA_LABEL = "draft length γ (tokens)"
ROOM_FOR_LABEL = 10
"""Draft lengths right of the paper's break-even that its label needs; an axis that ends before has it on the left."""


def figure6(study: Study, name: str, link: LinkSpec) -> Drawing:
    """Decode TPOT and latency per token against draft length, with server-only, optima and break-evens; one link."""
    curves = study.over(link)
    base = curves[0].baseline
    levels = [
        ("", "server-only", None, base),
        *((c.label, c.method.value, p.gamma, p) for c in curves for p in c.points),
    ]
    definitions = "; ".join(f"{what} = {FORMULAS[what]}" for what in ("decode TPOT", "latency per token"))
    return Drawing(
        name=name,
        title=f"Decode TPOT and latency per token against draft length, over {link_label(link)}",
        caption=(
            f"Time per token of device-edge speculation against draft length, over {link_label(link)}, "
            f"{curves[0].images} images ({study.result.data_name}). {definitions}. Dashed: server-only. Ring: the "
            "lowest point. Cross: where the curve meets server-only for good, by a straight line between neighbours. "
            f"{study.about_bars} What the paper states stands apart, below."
        ),
        alt="; ".join(
            f"{c.label}: {c.best.decode_tpot_ms.value:.2f} ms per token at draft length {c.best.gamma}, server-only "
            f"{c.baseline.decode_tpot_ms.value:.2f} ms"
            for c in curves
        ),
        figure=_draw_figure6(curves),
        table=style.table(
            {
                "series": series,
                "method": method,
                "gamma": gamma,
                "trials": len(level.arm.trials),
                "decode_tpot_ms": level.decode_tpot_ms,
                "latency_per_token_ms": level.latency_per_token_ms,
            }
            for series, method, gamma, level in levels
        ),
    )


def _draw_figure6(curves: Sequence[Curve]) -> Figure:
    from matplotlib.gridspec import GridSpec

    figure = style.new_figure(4.1)
    grid = GridSpec(3, 1, figure, height_ratios=(1, 1, 0.13))
    top = figure.add_subplot(grid[0])
    bottom = figure.add_subplot(grid[1], sharex=top)
    for axes, metric in ((top, "decode TPOT"), (bottom, "latency per token")):
        _panel(axes, curves, metric)
        axes.set_ylabel(f"{metric}\n(ms per token)")
    top.tick_params(labelbottom=False)
    bottom.set_xlabel(GAMMA_LABEL)
    style.place_legend(figure, top)
    paper_strip(figure.add_subplot(grid[2], sharex=top))
    return figure


def _panel(axes: Axes, curves: Sequence[Curve], metric: str) -> None:
    styles = style.looks([curve.series.pair for curve in curves])
    name = "decode_tpot_ms" if metric == "decode TPOT" else "latency_per_token_ms"
    level: Interval = getattr(curves[0].baseline, name)
    style.draw_level(axes, level, "server-only")
    for curve in curves:
        look, y = styles[curve.series.pair], [getattr(point, name) for point in curve.points]
        style.draw_points(axes, curve.gammas, y, look, _legend(curve))
        values = [interval.value for interval in y]
        _mark_optimum(axes, curve.gammas[int(np.argmin(values))], min(values), look)
        crossing = float(break_evens(curve.gammas, np.array([[level.value / value for value in values]]))[0])
        if crossing > 0 and math.isfinite(crossing):
            axes.plot([crossing], [level.value], marker="x", markersize=6, color=look.color, mew=1.3, zorder=5)
    axes.set_ylim(bottom=0)


def _legend(curve: Curve) -> str:
    crossing, *ends = (format_break_even(number, curve.gammas[-1]) for number in curve.break_even)
    interval = f" [{', '.join(ends)}]" if curve.break_even.known and {*ends} != {crossing} else ""
    return f"{curve.series.pair}: optimum {curve.optimum:.0f}, break-even {crossing}{interval}"


def _mark_optimum(axes: Axes, x: float, y: float, look: Look) -> None:
    """A ring round the optimum."""
    axes.plot([x], [y], marker="o", markersize=7.5, mfc="none", mec=look.color, mew=0.9, zorder=4)


def paper_strip(axes: Axes) -> None:
    """What the paper states, drawn apart from what was measured; shares the draft-length axis."""
    axes.set_ylim(0, 1)
    axes.grid(False)
    axes.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False)
    for side in axes.spines.values():
        side.set_visible(False)
    words: dict[str, Any] = {"color": style.GREY, "fontsize": 6, "va": "center", "style": "italic"}
    axes.plot([PAPER_OPTIMUM], [0.5], marker="o", markersize=5, mfc="none", color=style.GREY, clip_on=False)
    axes.plot([PAPER_BREAK_EVEN], [0.5], marker="x", markersize=5, color=style.GREY, clip_on=False)
    axes.text(PAPER_OPTIMUM + 0.8, 0.5, "optimum 4, about 2×", ha="left", **words)
    after = axes.get_xlim()[1] - PAPER_BREAK_EVEN > ROOM_FOR_LABEL
    x, side_of_cross = PAPER_BREAK_EVEN + (0.8 if after else -0.8), "left" if after else "right"
    axes.text(x, 0.5, "break-even 22", ha=side_of_cross, **words)
    beside: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate("the paper:", (0, 0.5), (-4, 0), ha="right", **beside, **words)


def speedup(study: Study, name: str, link: LinkSpec) -> Drawing:
    """Speed-up over server-only (decode TPOT) against draft length, with the closed form and the other baselines."""
    curves, co_located = study.over(link), study.over(link, study.co_located)
    on_device = {c.series.pair: level for c in curves if (level := study.on_device(c.series)) is not None}
    rows: list[dict[str, object]] = [
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
    rows += [{"series": pair, "method": "on-device", "speedup": level} for pair, level in on_device.items()]
    return Drawing(
        name=name,
        title=f"Speed-up over server-only against draft length, over {link_label(link)}",
        caption=(
            f"Speed-up over server-only, over {link_label(link)}: ratio of sums of decode TPOT over the same "
            f"{curves[0].images} images. Lines: S(γ) = E(γ) / (F + (c + s) γ) with alpha, c, F and s fitted to the "
            "measured rounds, not to this curve; at long drafts it lies below, because the end of a caption cuts "
            "rounds short, and saves drafts, which it does not know. Hollow: co-located speculation. On-device is the "
            f"draft alone, with another output. {study.about_bars}"
        ),
        alt="; ".join(
            f"{c.label}: {c.best.speedup.value:.2f} times server-only at draft length {c.best.gamma}" for c in curves
        ),
        figure=_draw_speedup(curves, co_located, on_device),
        table=style.table(rows),
    )


def _draw_speedup(curves: Sequence[Curve], co_located: Sequence[Curve], on_device: dict[str, Interval]) -> Figure:
    """The draft alone is named in the legend where it lies above the panel."""
    from matplotlib.gridspec import GridSpec

    figure = style.new_figure(3.1)
    grid = GridSpec(2, 1, figure, height_ratios=(1, 0.07))
    axes = figure.add_subplot(grid[0])
    styles = style.looks([curve.series.pair for curve in curves])
    axes.axhline(1, color=style.BLACK, linestyle="--", linewidth=1.0, label="server-only")
    for curve in curves:
        look, model = styles[curve.series.pair], curve.fit.model
        style.draw_points(axes, curve.gammas, [p.speedup for p in curve.points], look, curve.series.pair, "dots")
        x = np.linspace(1, curve.gammas[-1], 200)
        axes.plot(x, [model.speedup(g) for g in x], color=look.color, linestyle=look.line, linewidth=0.9, zorder=2.5)
        _mark_optimum(axes, curve.optimum.value, curve.best.speedup.value, look)
    for curve in co_located:
        look, label = styles[curve.series.pair], f"{curve.series.pair}, co-located"
        style.draw_points(axes, curve.gammas, [p.speedup for p in curve.points], look, label, "open")
    for pair, level in on_device.items():
        style.draw_level(axes, level, f"{pair}, on-device: {level.value:.1f}×", styles[pair].color, ":")
    axes.plot([], [], color=style.GREY, linewidth=0.9, label="closed form, fitted α, c, F")
    axes.set_ylim(0, 1.1 * _top([p.speedup for c in (*curves, *co_located) for p in c.points], on_device.values()))
    axes.set_ylabel("speed-up over server-only\n(decode TPOT)")
    axes.set_xlabel(GAMMA_LABEL)
    style.place_legend(figure, axes, 2)
    paper_strip(figure.add_subplot(grid[1], sharex=axes))
    return figure


def _top(points: Sequence[Interval], levels: Iterable[Interval]) -> float:
    """The highest of the points, and of the levels that are not far above them."""
    _, top = style.span([Interval(1.1), *points]) or (0, 1.1)
    _, top = style.span([Interval(top), *(level for level in levels if level.value < 1.5 * top)]) or (0, top)
    return top
