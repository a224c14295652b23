"""Figures of what happens in rounds: acceptance, where the time goes, bytes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.arms import Arm
from aiflow_cli.analysis.curves import Curve
from aiflow_cli.analysis.figures import style
from aiflow_cli.analysis.figures.style import GAMMA_LABEL, Drawing, Row
from aiflow_cli.analysis.intervals import Interval
from aiflow_cli.analysis.study import Study
from aiflow_cli.analysis.theory import expected_tokens
from aiflow_cli.link.spec import LinkSpec

FEWEST_JUDGED = 20
"""Positions judged less often than this are not shown: their share says nothing."""
_MOST_PANELS = 4


def acceptance(study: Study, link: LinkSpec) -> Drawing:
    """Conditional acceptance by draft position, and tokens per round by draft length with the fitted E(gamma)."""
    curves, rows, lowest = study.over(link), list[Row](), [0.55]
    figure, (top, bottom) = style.panels(3.6, (1, 1), x=False)
    styles = style.looks([curve.series.pair for curve in curves])
    for curve in curves:
        pair, alpha, x = curve.series.pair, curve.fit.model.alpha, np.linspace(1, curve.gammas[-1], 101)
        shares, tokens = _shares(curve), [point.arm.interval(metrics.tokens_per_round) for point in curve.points]
        look = styles[pair]
        style.draw_points(top, [k for k, _, _ in shares], [share for _, _, share in shares], look, pair, "dots")
        style.draw_points(bottom, curve.gammas, tokens, look, pair, "dots")
        line: dict[str, Any] = {"color": look.color, "linestyle": look.line, "linewidth": 0.8, "zorder": 2}
        top.axhline(alpha, label=f"fitted α = {alpha:.2f}", **line)
        bottom.plot(x, [expected_tokens(alpha, gamma) for gamma in x], **line)
        lowest += [number for _, _, share in shares for number in share]
        told: list[tuple[object, ...]] = [("conditional acceptance", *share, alpha) for share in shares]
        for gamma, value in zip(curve.gammas, tokens, strict=True):
            told.append(("tokens per round", gamma, None, value, expected_tokens(alpha, gamma)))
        names = ("quantity", "position_or_gamma", "judged", "value", "closed_form")
        rows += [{"pair": pair} | dict(zip(names, one, strict=True)) for one in told]
    top.set_xlabel("position in the draft")
    style.count_along(top)
    style.name_axes((top, bottom), GAMMA_LABEL, "accepted, given that all\nbefore were accepted", "tokens per round")
    top.set_ylim(max(0.0, float(np.nanmin(lowest)) - 0.05), 1.04)  # room for a marker at 1
    style.place_legend(figure, top, len(curves))
    alt = (f"{curve.series.pair}: fitted alpha {curve.fit.model.alpha:.2f}" for curve in curves)
    return Drawing(figure, rows, "; ".join(alt), {"fewest": FEWEST_JUDGED})


def _shares(curve: Curve) -> list[tuple[int, int, Interval]]:
    """Draft positions, over the rounds of all draft lengths: how often each was judged, and the share accepted."""
    everything, found = Arm(trial for point in curve.points for trial in point.arm.trials), []
    for position in range(1, curve.gammas[-1] + 1):
        metric = metrics.acceptance_at(position)
        judged = round(sum(part.under for part in everything.sums(metric).values()))
        if judged >= FEWEST_JUDGED:
            found.append((position, judged, everything.interval(metric)))
    return found


_PARTS = {
    "draft": (("draft",), style.BLUE, ""),
    "device software": (("encode", "apply"), style.SKY, "////"),
    "uplink (modelled)": (("uplink",), style.VERMILLION, ""),
    "server queue": (("queue",), style.LIGHT, "xxxx"),
    "verify": (("verify",), style.ORANGE, ""),
    "downlink (modelled)": (("downlink",), style.GREEN, "...."),
}
"""What is stacked, from below; the two large parts differ in lightness, so that they do in grey."""


def round_time(study: Study, link: LinkSpec) -> Drawing:
    """Where a round's time goes, stacked by part, at each draft length; the bar is the interval of the whole round."""
    curves = study.curves if len(study.curves) <= _MOST_PANELS else study.over(link)[:_MOST_PANELS]
    height_in = 0.7 + (1.6 if len(curves) < 3 else 1.2) * len(curves)
    figure, panels = style.panels(height_in, [1] * len(curves), y=True)
    rows, alt = list[Row](), []
    for axes, curve in zip(panels, curves, strict=True):
        walls, bottom = [point.arm.ms(metrics.round_wall) for point in curve.points], np.zeros(len(curve.points))
        told: list[Row] = [{"series": curve.label, "gamma": gamma} for gamma in curve.gammas]
        for name, (parts, color, hatch) in _PARTS.items():
            each = [[p.arm.value(metrics.per_round(part)) or 0.0 for part in parts] for p in curve.points]
            ms = 1e3 * np.sum(each, axis=1)
            look: dict[str, Any] = {"color": color, "hatch": hatch, "edgecolor": "white", "linewidth": 0.3}
            axes.bar(curve.gammas, ms, 0.75, bottom, label=name, zorder=2, **look)
            bottom = bottom + ms
            for row, value in zip(told, ms, strict=True):
                row[f"{'_'.join(re.findall('[a-z]+', name))}_ms"] = float(value)
        style.draw_bars(axes, curve.gammas, walls, fmt="none", ecolor=style.BLACK)
        axes.set_title(curve.label if len(curves) > 1 else "")
        rows += [row | {"wall_ms": wall} for row, wall in zip(told, walls, strict=True)]
        alt.append(f"{curve.label}: {walls[0].value:.1f} to {walls[-1].value:.1f} ms per round")
    style.name_axes(panels, GAMMA_LABEL, *["ms per round"] * len(curves))
    style.place_legend(figure, panels[0], 3, backwards=True)
    return Drawing(figure, rows, "; ".join(alt))


_BYTES = {
    "bytes_up_per_token": metrics.bytes_up_per_token,
    "bytes_up_without_image_per_token": metrics.round_bytes_up_per_token,
    "bytes_down_per_token": metrics.bytes_down_per_token,
}


def bytes_per_token(study: Study, link: LinkSpec) -> Drawing:
    """Bytes per token against draft length: above, all that goes up; below, drafts up and verdicts down alone."""
    curves, rows, alt = study.over(link), list[Row](), []
    figure, (top, bottom) = style.panels(3.6, (1, 1))
    styles = style.looks([curve.series.pair for curve in curves])
    for target, curve in study.by_target(curves).items():
        label, color = style.server_only(target, styles[curve.series.pair])
        whole, _, back = (curve.baseline.interval(metric).value for metric in _BYTES.values())
        for axes, level, named in ((top, whole, label), (bottom, back, f"{label}, down")):
            axes.axhline(level, color=color, linestyle="--", linewidth=1.0, label=named)
    for curve in curves:
        arms = {None: curve.baseline} | {point.gamma: point.arm for point in curve.points}
        for gamma, arm in arms.items():
            told = {name: arm.interval(metric) for name, metric in _BYTES.items()}
            rows.append({"series": curve.label, "gamma": gamma, **told})
        look = styles[curve.series.pair]
        up, drafts, down = ([p.arm.interval(metric) for p in curve.points] for metric in _BYTES.values())
        style.draw_points(top, curve.gammas, up, look, curve.label)
        style.draw_points(bottom, curve.gammas, drafts, look, f"{curve.label}, up")
        style.draw_points(bottom, curve.gammas, down, look, f"{curve.label}, down", "open")
        alt.append(f"{curve.label}: {drafts[-1].value:.1f} B up, {down[-1].value:.1f} B down")
    labels = ("bytes up per token,\nimage included", "bytes per token,\nimage left out")
    style.name_axes((top, bottom), GAMMA_LABEL, *labels)
    style.place_legend(figure, bottom, 2)
    return Drawing(figure, rows, "; ".join(alt))
