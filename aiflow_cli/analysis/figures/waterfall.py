"""The waterfall: one response on four lanes, server-only beside speculation, and one round enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aiflow_cli.analysis.figures import style
from aiflow_cli.analysis.figures.style import Drawing
from aiflow_cli.analysis.figures.timeline import DEVICE, DOWNLINK, LANES, SERVER, UPLINK, Segment, segments
from aiflow_cli.analysis.result import link_label
from aiflow_cli.analysis.study import Study
from aiflow_cli.world.record import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = {
    (DEVICE, "prefill"): style.SKY,
    (DEVICE, "draft"): style.BLUE,
    (UPLINK, "image"): style.VERMILLION,
    (UPLINK, "uplink"): style.VERMILLION,
    (SERVER, "prefill"): style.PALE_ORANGE,
    (SERVER, "draft prefill"): style.SKY,
    (SERVER, "verify"): style.ORANGE,
    (SERVER, "decode"): style.ORANGE,
    (SERVER, "draft"): style.BLUE,
    (DOWNLINK, "downlink"): style.GREEN,
    (DOWNLINK, "first token"): style.GREEN,
    (DOWNLINK, "token"): style.GREEN,
}
_LEAST_SHARE = 0.003
"""A segment is drawn at least this share of the panel wide, so that a message is seen; its data are in the CSV."""
_UNLABELLED = ("encode", "apply", "queue")


def waterfall(study: Study, baseline: Trial | None, trial: Trial) -> Drawing:
    """A response and, above it on the same clock, server-only's for the same image; below, its middle round."""
    shown = [one for one in (baseline, trial) if one is not None]
    where = f"{study.main.label}, over {link_label(study.main.series.link)}"
    return Drawing(
        name="waterfall",
        title="One response, part by part",
        caption=(
            f"The response of median latency per token ({trial.trial}, image {trial.image_id}, {where}) beside "
            "server-only's for the same image. Triangles: deliveries. What was on the link is modelled where it is "
            "told apart into up and down: each way takes what an idle link takes, and half of the rest. Very short "
            "parts are drawn a hair's breadth wide."
        ),
        alt=f"{trial.n_tokens} tokens in {1e3 * trial.latency_s:.0f} ms",
        figure=_draw(shown, trial),
        rows=[
            {
                "trial": one.trial,
                "method": one.setting.method.value,
                "gamma": one.setting.gamma,
                "lane": s.lane,
                "part": s.part,
                "round": s.round,
                "start_ms": 1e3 * s.start_s,
                "duration_ms": 1e3 * s.duration_s,
            }
            for one in shown
            for s in segments(one)
        ],
    )


def _draw(shown: Sequence[Trial], trial: Trial) -> Figure:
    figure, axes = style.panels(0.5 + 1.1 * (count := len(shown) + bool(trial.rounds)), [1] * count, x=False)
    last_ms = 1e3 * max(one.latency_s for one in shown) * 1.01
    for panel, one in zip(axes, shown, strict=False):
        gamma = "" if one.setting.gamma is None else f", γ = {one.setting.gamma}"
        rounds = f" in {len(one.rounds)} rounds" if one.rounds else ""
        title = f"{one.setting.method.value}{gamma}: {one.n_tokens} tokens{rounds}, {1e3 * one.latency_s:.0f} ms"
        _panel(panel, segments(one), (0.0, last_ms), title)
        at_ms = [1e3 * delivery.at_s for delivery in one.deliveries]
        panel.plot(at_ms, [-0.62] * len(at_ms), "v", markersize=1.8, color=style.BLACK, zorder=4, clip_on=False)
    axes[len(shown) - 1].set_xlabel("time since the image is in memory (ms)")
    if trial.rounds:
        _round_panel(axes[-1], trial, len(trial.rounds) // 2)
    return figure


def _round_panel(axes: Axes, trial: Trial, number: int) -> None:
    mine = [s for s in segments(trial) if s.round == number]
    r, start_s = trial.rounds[number], trial.deliveries[number].at_s
    span_ms = (1e3 * start_s, 1e3 * (start_s + r.wall_s))
    accepted = f"{r.accepted} of {r.drafted} drafts accepted"
    _panel(axes, mine, span_ms, f"round {number + 1} enlarged: {accepted}, {r.bytes_up} B up, {r.bytes_down} B down")
    for s in mine:
        if s.part not in _UNLABELLED:
            _label(axes, s, span_ms)
    axes.set_xlabel("the same clock (ms)")


def _panel(axes: Axes, found: Sequence[Segment], span_ms: tuple[float, float], title: str) -> None:
    least = _LEAST_SHARE * (span_ms[1] - span_ms[0])
    for s in found:
        width, color = max(1e3 * s.duration_s, least), _COLORS.get((s.lane, s.part), style.LIGHT)
        look: dict[str, Any] = {"color": color, "edgecolor": "white", "linewidth": 0.2, "zorder": 2}
        axes.barh(LANES.index(s.lane), width, 0.7, 1e3 * s.start_s, **look)
    axes.set_xlim(*span_ms)
    axes.set_ylim(len(LANES) - 0.5, -0.85)
    axes.set_yticks(range(len(LANES)), LANES)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_title(title, fontsize=6.5, fontweight="normal")


def _label(axes: Axes, s: Segment, span_ms: tuple[float, float]) -> None:
    """Its part and time: on it where it is wide enough, else beside it, on the side where there is room."""
    start_ms, end_ms, y = 1e3 * s.start_s, 1e3 * s.end_s, LANES.index(s.lane)
    ms = end_ms - start_ms
    text = f"{s.part} {ms:.2g} ms" if ms < 10 else f"{s.part} {ms:.1f} ms"
    if ms > 0.25 * (span_ms[1] - span_ms[0]):
        color = "white" if _COLORS.get((s.lane, s.part)) == style.BLUE else style.BLACK
        axes.text((start_ms + end_ms) / 2, y, text, ha="center", va="center", fontsize=5.8, color=color, zorder=5)
        return
    left = end_ms > sum(span_ms) / 2
    at, shift, side = (start_ms, -3, "right") if left else (end_ms, 3, "left")
    axes.annotate(text, (at, y), (shift, 0), textcoords="offset points", ha=side, va="center", fontsize=5.8)
