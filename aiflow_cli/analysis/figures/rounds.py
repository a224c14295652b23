"""Figures of what happens in rounds: acceptance, where the time goes, bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.arms import Arm
from aiflow_cli.analysis.curves import Curve
from aiflow_cli.analysis.figures import style
from aiflow_cli.analysis.figures.style import GAMMA_LABEL, Drawing, Row
from aiflow_cli.analysis.intervals import Interval
from aiflow_cli.analysis.result import link_label
from aiflow_cli.analysis.study import Study
from aiflow_cli.analysis.theory import expected_tokens

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST_JUDGED = 20
"""Positions judged less often than this are not shown: their share says nothing."""


def acceptance(study: Study) -> Drawing:
    """Conditional acceptance by draft position, and tokens per round by draft length with the fitted E(gamma)."""
    shares, rows = {curve: _shares(curve) for curve in study.over(study.reference_link)}, list[Row]()
    for curve, found in shares.items():
        alpha = curve.fit.model.alpha
        told: list[tuple[object, ...]] = [("conditional acceptance", *share, alpha) for share in found]
        for gamma, arm, _ in curve.points:
            value = arm.interval(metrics.tokens_per_round)
            told.append(("tokens per round", gamma, None, value, expected_tokens(alpha, gamma)))
        names = ("quantity", "position_or_gamma", "judged", "value", "closed_form")
        rows += [{"pair": curve.series.pair} | dict(zip(names, one, strict=True)) for one in told]
    return Drawing(
        name="acceptance",
        title="Acceptance by draft position, and tokens per round",
        caption=(
            "Above: the share of drafts accepted at a position among those whose earlier ones were all accepted, over "
            f"the rounds of all draft lengths (positions judged at least {FEWEST_JUDGED} times); the line is the "
            "fitted alpha. Below: tokens per round, the target's own included, and E(γ) of that alpha (Leviathan et "
            f"al., eq. 1), over {link_label(study.reference_link)}. {study.about_bars}"
        ),
        alt="; ".join(f"{curve.series.pair}: fitted alpha {curve.fit.model.alpha:.2f}" for curve in shares),
        figure=_draw_acceptance(shares),
        rows=rows,
    )


def _shares(curve: Curve) -> list[tuple[int, int, Interval]]:
    """Draft positions, over the rounds of all draft lengths: how often each was judged, and the share accepted."""
    everything, found = Arm(trial for point in curve.points for trial in point.arm.trials), []
    for position in range(1, curve.gammas[-1] + 1):
        metric = metrics.acceptance_at(position)
        judged = round(sum(part.under for part in everything.sums(metric).values()))
        if judged >= FEWEST_JUDGED:
            found.append((position, judged, everything.interval(metric)))
    return found


def _draw_acceptance(shares: dict[Curve, list[tuple[int, int, Interval]]]) -> Figure:
    figure, (top, bottom) = style.panels(3.6, (1, 1), x=False)
    styles = style.looks([curve.series.pair for curve in shares])
    for curve, found in shares.items():
        pair, alpha = curve.series.pair, curve.fit.model.alpha
        look, x = styles[pair], np.linspace(1, curve.gammas[-1], 101)
        line: dict[str, Any] = {"color": look.color, "linestyle": look.line, "linewidth": 0.8, "zorder": 2}
        style.draw_points(top, [k for k, _, _ in found], [share for _, _, share in found], look, pair, "dots")
        top.axhline(alpha, label=f"fitted α = {alpha:.2f}", **line)
        tokens = [point.arm.interval(metrics.tokens_per_round) for point in curve.points]
        style.draw_points(bottom, curve.gammas, tokens, look, pair, "dots")
        bottom.plot(x, [expected_tokens(alpha, g) for g in x], **line)
    top.set_xlabel("position in the draft")
    top.locator_params("x", integer=True)
    style.name_axes((top, bottom), GAMMA_LABEL, "accepted, given that all\nbefore were accepted", "tokens per round")
    drawn = [0.55, *(number for found in shares.values() for _, _, share in found for number in share)]
    top.set_ylim(max(0.0, float(np.nanmin(drawn)) - 0.05), 1.04)  # room for a marker at 1
    style.place_legend(figure, top, max(1, len(shares)))
    return figure


_PARTS = {
    "draft": (("draft",), style.BLUE, ""),
    "device software": (("encode", "apply"), style.SKY, "////"),
    "uplink (modelled)": (("uplink",), style.VERMILLION, ""),
    "server queue": (("queue",), style.LIGHT, "xxxx"),
    "verify": (("verify",), style.ORANGE, ""),
    "downlink (modelled)": (("downlink",), style.GREEN, "...."),
}
"""What is stacked, from below; the two large parts differ in lightness, so that they do in grey."""


def round_time(study: Study, curves: Sequence[Curve]) -> Drawing:
    """Where a round's time goes, stacked by part, at each draft length; the bar is the interval of the whole round."""
    walls = [[point.arm.ms(metrics.round_wall) for point in curve.points] for curve in curves]
    return Drawing(
        name="round-time",
        title="Where the time of a round goes",
        caption=(
            "Mean time of a round by part. Draft and device software (framing, applying the verdict) are the device's "
            "clock; queue and verify are durations that the server reports; what is left is the network. Its parts up "
            "and down are modelled, not measured: each way takes what an idle link takes, and half of the rest. "
            f"{study.about_bars}"
        ),
        alt="; ".join(
            f"{curve.label}: {wall[0].value:.1f} to {wall[-1].value:.1f} ms per round"
            for curve, wall in zip(curves, walls, strict=True)
        ),
        figure=_draw_round_time(curves),
        rows=[
            {"series": curve.label, "gamma": point.gamma}
            | {f"{'_'.join(re.findall('[a-z]+', name))}_ms": _part_ms(point.arm, name) for name in _PARTS}
            | {"wall_ms": point.arm.ms(metrics.round_wall)}
            for curve in curves
            for point in curve.points
        ],
    )


def _part_ms(arm: Arm, name: str) -> float:
    """A stacked part's mean time in a round."""
    return 1e3 * sum(arm.value(metrics.per_round(part)) or 0.0 for part in _PARTS[name][0])


def _draw_round_time(curves: Sequence[Curve]) -> Figure:
    height_in = 0.7 + (1.6 if len(curves) < 3 else 1.2) * len(curves)
    figure, panels = style.panels(height_in, [1] * len(curves), y=True)
    for axes, curve in zip(panels, curves, strict=True):
        bottom = np.zeros(len(curve.points))
        for name, (_, color, hatch) in _PARTS.items():
            ms = np.array([_part_ms(point.arm, name) for point in curve.points])
            look: dict[str, Any] = {"color": color, "hatch": hatch, "edgecolor": "white", "linewidth": 0.3}
            axes.bar(curve.gammas, ms, 0.75, bottom, label=name, zorder=2, **look)
            bottom = bottom + ms
        walls = [point.arm.ms(metrics.round_wall) for point in curve.points]
        style.draw_bars(axes, curve.gammas, walls, fmt="none", ecolor=style.BLACK)
        if len(curves) > 1:
            axes.set_title(curve.label)
    style.name_axes(panels, GAMMA_LABEL, *["ms per round"] * len(curves))
    style.place_legend(figure, panels[0], 3, backwards=True)
    return figure


_BYTES = {
    "bytes_up_per_token": metrics.bytes_up_per_token,
    "bytes_up_without_image_per_token": metrics.round_bytes_up_per_token,
    "bytes_down_per_token": metrics.bytes_down_per_token,
}


def bytes_per_token(study: Study) -> Drawing:
    """Bytes per token against draft length: above, all that goes up; below, drafts up and verdicts down alone."""
    curves = study.over(study.reference_link)
    rows: list[Row] = []
    for c in curves:
        for gamma, arm in ((None, c.baseline), *((p.gamma, p.arm) for p in c.points)):
            told = {name: arm.interval(metric) for name, metric in _BYTES.items()}
            rows.append({"series": c.label, "gamma": gamma, **told})
    last = {c: [c.points[-1].arm.interval(metric).value for metric in _BYTES.values()] for c in curves}
    return Drawing(
        name="bytes",
        title="Bytes on the link per token",
        caption=(
            "Bytes of the application on the wire, framing included, over output tokens, over "
            f"{link_label(study.reference_link)}. Above: all that goes up, with the image. Below: drafts up and "
            f"verdicts down, without the request that carries the image. {study.about_bars}"
        ),
        alt="; ".join(f"{c.label}: {up:.1f} B up, {down:.1f} B down" for c, (_, up, down) in last.items()),
        figure=_draw_bytes(curves),
        rows=rows,
    )


def _draw_bytes(curves: Sequence[Curve]) -> Figure:
    figure, (top, bottom) = style.panels(3.6, (1, 1))
    styles = style.looks([curve.series.pair for curve in curves])
    base = curves[0].baseline
    for axes, metric, label in (
        (top, metrics.bytes_up_per_token, "server-only"),
        (bottom, metrics.bytes_down_per_token, "server-only, down"),
    ):
        level = base.interval(metric).value
        axes.axhline(level, color=style.BLACK, linestyle="--", linewidth=1.0, label=label)
    for curve in curves:
        look, gammas, label = styles[curve.series.pair], curve.gammas, curve.label
        up, drafts, down = ([p.arm.interval(metric) for p in curve.points] for metric in _BYTES.values())
        style.draw_points(top, gammas, up, look, label)
        style.draw_points(bottom, gammas, drafts, look, f"{label}, up")
        style.draw_points(bottom, gammas, down, look, f"{label}, down", "open")
    labels = ("bytes up per token,\nimage included", "bytes per token,\nimage left out")
    style.name_axes((top, bottom), GAMMA_LABEL, *labels)
    style.place_legend(figure, bottom, 2)
    return figure
