"""The waterfall: one response on four lanes, server-only beside speculation, and one round enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiflow_cli.analysis.metrics import Record, latency_per_token
from aiflow_cli.analysis.style import BLACK, BLUE, GREEN, LIGHT, ORANGE, PALE_ORANGE, SKY, VERMILLION, Table, new_figure
from aiflow_cli.analysis.timeline import DEVICE, DOWNLINK, LANES, SERVER, UPLINK, Segment, segments

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = {
    (DEVICE, "prefill"): SKY,
    (DEVICE, "draft"): BLUE,
    (UPLINK, "image"): VERMILLION,
    (UPLINK, "uplink"): VERMILLION,
    (SERVER, "prefill"): PALE_ORANGE,
    (SERVER, "draft prefill"): SKY,
    (SERVER, "verify"): ORANGE,
    (SERVER, "decode"): ORANGE,
    (SERVER, "draft"): BLUE,
    (DOWNLINK, "downlink"): GREEN,
    (DOWNLINK, "first token"): GREEN,
    (DOWNLINK, "token"): GREEN,
}
_LEAST_SHARE = 0.003
"""A segment is drawn at least this share of the panel wide, so that a message is seen at all; its data are in the CSV."""


def typical(records: Sequence[Record]) -> Record:
    """The response with the median latency per token (the lower one of two); the first by name among equals."""
    ordered = sorted(records, key=lambda r: (latency_per_token(r).over / latency_per_token(r).under, r["trial"]))
    return ordered[(len(ordered) - 1) // 2]


def waterfall(baseline: Record | None, record: Record) -> Figure:
    """One response of `record`'s method and, above it on the same clock, server-only's for the same image; below, its middle round."""
    middle = len(record["rounds"]) // 2 if record["rounds"] else None
    shown = [r for r in (baseline, record) if r is not None]
    panels = len(shown) + (middle is not None)
    figure = new_figure(0.5 + 1.1 * panels)
    axes = figure.subplots(panels, 1, squeeze=False)[:, 0]
    last_ms = 1e3 * max(r["latency_s"] for r in shown) * 1.01
    for panel, one in zip(axes, shown, strict=False):
        _panel(panel, segments(one), one["deliveries"], (0.0, last_ms), _title(one))
    axes[len(shown) - 1].set_xlabel("time since the image is in memory (ms)")
    if middle is not None:
        _round_panel(axes[-1], record, middle)
    return figure


def _title(record: Record) -> str:
    gamma = "" if record["gamma"] is None else f", γ = {record['gamma']}"
    rounds = f" in {len(record['rounds'])} rounds" if record["rounds"] else ""
    return f"{record['method']}{gamma}: {record['n_tokens']} tokens{rounds}, {1e3 * record['latency_s']:.0f} ms"


def _round_panel(axes: Axes, record: Record, number: int) -> None:
    mine = [s for s in segments(record) if s.round == number]
    r, start_s = record["rounds"][number], record["deliveries"][number][0]
    span = (1e3 * start_s, 1e3 * (start_s + r["wall_s"]) * 1.0)
    title = f"round {number + 1} enlarged: {r['accepted']} of {r['drafted']} drafts accepted, {r['bytes_up']} B up, {r['bytes_down']} B down"
    _panel(axes, mine, [], span, title, labels=True)
    axes.set_xlabel("the same clock (ms)")


def _panel(
    axes: Axes,
    found: Sequence[Segment],
    deliveries: Sequence[Sequence[float]],
    span_ms: tuple[float, float],
    title: str,
    labels: bool = False,
) -> None:
    least = _LEAST_SHARE * (span_ms[1] - span_ms[0])
    for s in found:
        y, color = LANES.index(s.lane), _COLORS.get((s.lane, s.part), LIGHT)
        axes.barh(
            y,
            max(1e3 * s.duration_s, least),
            0.7,
            1e3 * s.start_s,
            color=color,
            edgecolor="white",
            linewidth=0.2,
            zorder=2,
        )
        if labels:
            _label(axes, s, y, span_ms, color)
    for at, _ in deliveries:
        axes.plot([1e3 * at], [-0.62], marker="v", markersize=1.8, color=BLACK, zorder=4, clip_on=False)
    axes.set_xlim(*span_ms)
    axes.set_ylim(len(LANES) - 0.5, -0.85)
    axes.set_yticks(range(len(LANES)), LANES)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_title(title, fontsize=6.5, fontweight="normal")


def _label(axes: Axes, s: Segment, y: int, span_ms: tuple[float, float], color: str) -> None:
    text = f"{s.part} {1e3 * s.duration_s:.2g} ms" if s.duration_s < 0.01 else f"{s.part} {1e3 * s.duration_s:.1f} ms"
    share = 1e3 * s.duration_s / (span_ms[1] - span_ms[0])
    if s.part in ("encode", "apply", "queue"):
        return
    if share > 0.25:
        axes.text(
            1e3 * (s.start_s + s.duration_s / 2),
            y,
            text,
            ha="center",
            va="center",
            fontsize=5.8,
            color="white" if color == BLUE else BLACK,
            zorder=5,
        )
    else:
        left = 1e3 * s.end_s > (span_ms[0] + span_ms[1]) / 2
        x = 1e3 * (s.start_s if left else s.end_s)
        axes.annotate(
            text,
            (x, y),
            (-3 if left else 3, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=5.8,
        )


def waterfall_table(records: Sequence[Record]) -> Table:
    """The data of `waterfall`."""
    columns = ("trial", "method", "gamma", "lane", "part", "round", "start_ms", "duration_ms")
    rows: list[tuple[object, ...]] = [
        (r["trial"], r["method"], r["gamma"], s.lane, s.part, s.round, 1e3 * s.start_s, 1e3 * s.duration_s)
        for r in records
        for s in segments(r)
    ]
    return Table(columns, rows)
