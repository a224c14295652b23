"""Figures over the draft length: the paper's Figure 6, and speed-up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aiflow_cli.analysis.arms import Arm
from aiflow_cli.analysis.curves import Curve, break_evens
from aiflow_cli.analysis.figures import style
from aiflow_cli.analysis.figures.style import Drawing, Look, Row
from aiflow_cli.analysis.intervals import Interval
from aiflow_cli.analysis.metrics import DEFINITIONS, FORMULAS, decode_tpot
from aiflow_cli.analysis.result import link_label
from aiflow_cli.analysis.study import Study
from aiflow_cli.analysis.theory import PAPER_BREAK_EVEN, PAPER_OPTIMUM, format_break_even
from aiflow_cli.link.spec import LinkSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = ("decode TPOT", "latency per token")
"""The definitions of time per token that Figure 6 shows."""
ROOM_FOR_LABEL = 10
"""Draft lengths right of the paper's break-even that its label needs; an axis that ends before has it on the left."""


def figure6(study: Study, name: str, link: LinkSpec) -> Drawing:
    """Decode TPOT and latency per token against draft length, with server-only, optima and break-evens; one link."""
    curves = study.over(link)
    best = [(c, c.best.arm.ms(decode_tpot).value, c.baseline.ms(decode_tpot).value) for c in curves]
    arms: list[tuple[str, str, int | None, Arm]] = [("", "server-only", None, curves[0].baseline)]
    arms += [(c.label, c.method.value, p.gamma, p.arm) for c in curves for p in c.points]
    return Drawing(
        name=name,
        title=f"Decode TPOT and latency per token against draft length, over {link_label(link)}",
        caption=(
            f"Time per token of device-edge speculation against draft length, over {link_label(link)}, "
            f"{curves[0].images} images ({study.result.data_name}). "
            f"{'; '.join(f'{definition} = {FORMULAS[definition]}' for definition in SHOWN)}. Dashed: server-only. "
            "Ring: the lowest point. Cross: where the curve meets server-only for good, by a straight line between "
            "neighbours. "
            f"{study.about_bars} What the paper states stands apart, below."
        ),
        alt="; ".join(
            f"{c.label}: {ms:.2f} ms per token at draft length {c.best.gamma}, server-only {base_ms:.2f} ms"
            for c, ms, base_ms in best
        ),
        figure=_draw_figure6(curves),
        rows=[
            {"series": series, "method": method, "gamma": gamma, "trials": len(arm.trials)}
            | {f"{d.replace(' ', '_').lower()}_ms": arm.ms(DEFINITIONS[d]) for d in SHOWN}
            for series, method, gamma, arm in arms
        ],
    )


def _draw_figure6(curves: Sequence[Curve]) -> Figure:
    figure, (*panels, strip) = style.panels(4.1, (1, 1, 0.13))
    styles = style.looks([curve.series.pair for curve in curves])
    for axes, definition in zip(panels, SHOWN, strict=True):
        level = curves[0].baseline.ms(DEFINITIONS[definition])
        style.draw_level(axes, level, "server-only")
        for curve in curves:
            look, y = styles[curve.series.pair], [point.arm.ms(DEFINITIONS[definition]) for point in curve.points]
            style.draw_points(axes, curve.gammas, y, look, _legend(curve))
            values = [interval.value for interval in y]
            _mark_optimum(axes, curve.gammas[int(np.argmin(values))], min(values), look)
            crossing = float(break_evens(curve.gammas, level.value / np.array([values]))[0])
            if crossing > 0 and math.isfinite(crossing):
                axes.plot([crossing], [level.value], marker="x", markersize=6, color=look.color, mew=1.3, zorder=5)
    style.name_axes(panels, style.GAMMA_LABEL, *(f"{definition}\n(ms per token)" for definition in SHOWN))
    style.place_legend(figure, panels[0])
    _draw_paper(strip)
    return figure


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


def speedup(study: Study, name: str, link: LinkSpec) -> Drawing:
    """Speed-up over server-only (decode TPOT) against draft length, with the closed form and the other baselines."""
    curves, co_located = study.over(link), study.over(link, study.co_located)
    alone = {c.series.pair: level for c in curves if (level := study.on_device(c.series)).defined}
    rows: list[Row] = [
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
        figure=_draw_speedup(curves, co_located, alone),
        rows=[*rows, *({"series": pair, "method": "on-device", "speedup": level} for pair, level in alone.items())],
    )


def _draw_speedup(curves: Sequence[Curve], co_located: Sequence[Curve], on_device: dict[str, Interval]) -> Figure:
    """The draft alone is named in the legend where it lies above the panel."""
    figure, (axes, strip) = style.panels(3.1, (1, 0.07))
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
    style.name_axes([axes], style.GAMMA_LABEL, "speed-up over server-only\n(decode TPOT)")
    top = np.nanmax([Interval(1.1), *(p.speedup for c in (*curves, *co_located) for p in c.points)])
    near = [level for level in on_device.values() if level.value < 1.5 * top]
    axes.set_ylim(0, 1.1 * float(np.nanmax([Interval(float(top)), *near])))
    style.place_legend(figure, axes, 2)
    _draw_paper(strip)
    return figure
