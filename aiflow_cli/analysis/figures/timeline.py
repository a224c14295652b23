"""One response as segments on four lanes: the waterfall, and Perfetto's trace.

Positions are the device's clock. A round's parts follow one another from the delivery before it; a server-only step is
put before its token's arrival by the way down that the first token took. Up and down are modelled, since the clock does
not tell them apart (`metrics.round_ways`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from aiflow_cli.analysis.figures import style
from aiflow_cli.analysis.figures.style import Drawing
from aiflow_cli.analysis.metrics import ROUND_PARTS, prefill_ways, round_ways
from aiflow_cli.analysis.result import link_label
from aiflow_cli.analysis.study import Study
from aiflow_cli.decoding.methods import Method
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.world.record import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEVICE, UPLINK, SERVER, DOWNLINK = LANES = ("device", "uplink", "server", "downlink")
MODELLED = "the link's parts up and down are modelled"


class Segment(NamedTuple):
    """Something that took time on a lane. `round` counts from 0; None outside rounds."""

    lane: str
    part: str
    start_s: float
    duration_s: float
    round: int | None = None

    @property
    def end_s(self) -> float:
        """When it was over."""
        return self.start_s + self.duration_s


def segments(trial: Trial) -> list[Segment]:
    """All segments of a response, prefill first; those without duration are left out."""
    rest = _rounds(trial) if trial.rounds else _steps(trial)
    return [s for s in (*_prefill(trial), *rest) if s.duration_s > 0]


def _prefill(trial: Trial) -> Iterator[Segment]:
    prefill, method = trial.prefill, trial.setting.method
    draft_s, queue_s, server_s = prefill.draft_s or 0.0, prefill.queue_s or 0.0, prefill.server_s or 0.0
    up_s = prefill_ways(trial).up_s
    if method is not Method.CO_LOCATED:
        yield Segment(DEVICE, "prefill", 0.0, draft_s)
    if method is Method.ON_DEVICE:
        return
    yield Segment(UPLINK, "image", 0.0, up_s)
    yield Segment(SERVER, "queue", up_s, queue_s)
    yield Segment(SERVER, "prefill", up_s + queue_s, server_s)
    begun = up_s + queue_s + server_s
    if method is Method.CO_LOCATED:
        yield Segment(SERVER, "draft prefill", begun, draft_s)
        begun += draft_s
    yield Segment(DOWNLINK, "first token", begun, trial.ttft_s - begun)


_SERVER_PARTS = {"queue": SERVER, "verify": SERVER, "uplink": UPLINK, "downlink": DOWNLINK}


def _rounds(trial: Trial) -> Iterator[Segment]:
    lanes = dict.fromkeys(ROUND_PARTS, DEVICE) | _SERVER_PARTS
    if trial.setting.method is Method.CO_LOCATED:
        lanes["draft"] = SERVER
    for number, r in enumerate(trial.rounds):
        at, ways = trial.deliveries[number].at_s, round_ways(trial, r)
        for part, seconds in ROUND_PARTS.items():
            yield Segment(lanes[part], part, at, seconds(r, ways), number)
            at += seconds(r, ways)


def _steps(trial: Trial) -> Iterator[Segment]:
    on_device = trial.setting.method is Method.ON_DEVICE
    down_s = 0.0 if on_device else prefill_ways(trial).down_s
    free_s = 0.0
    for delivery, step_s in zip(trial.deliveries[1:], trial.steps_s, strict=False):
        start_s = max(free_s, delivery.at_s - down_s - step_s)
        free_s = start_s + step_s
        yield Segment(DEVICE if on_device else SERVER, "decode", start_s, step_s)
        if not on_device:
            yield Segment(DOWNLINK, "token", free_s, max(0.0, delivery.at_s - free_s))


_COLORS = {
    (DEVICE, "prefill"): style.SKY,
    (DEVICE, "draft"): style.BLUE,
    (SERVER, "prefill"): style.PALE_ORANGE,
    (SERVER, "draft prefill"): style.SKY,
    (SERVER, "verify"): style.ORANGE,
    (SERVER, "decode"): style.ORANGE,
    (SERVER, "draft"): style.BLUE,
}
_LANE_COLORS = {DEVICE: style.LIGHT, UPLINK: style.VERMILLION, SERVER: style.LIGHT, DOWNLINK: style.GREEN}
"""Of all else on a lane."""
_LEAST_SHARE = 0.003
"""A segment is drawn at least this share of the panel wide, so that a message is seen; its data are in the CSV."""
_UNLABELLED = ("encode", "apply", "queue")


def waterfall(study: Study, _: LinkSpec) -> Drawing:
    """A typical response and, above it on the same clock, server-only's for the same image; below, its middle round."""
    baseline, trial = study.shown
    shown = [one for one in (baseline, trial) if one is not None]
    count = len(shown) + bool(trial.rounds)
    figure, axes = style.panels(0.5 + 1.1 * count, [1] * count, x=False)
    last_ms, rows = 1e3 * max(one.latency_s for one in shown) * 1.01, []
    for panel, one in zip(axes, shown, strict=False):
        gamma = "" if one.setting.gamma is None else f", γ = {one.setting.gamma}"
        rounds = f" in {len(one.rounds)} rounds" if one.rounds else ""
        title = f"{one.setting.method.value}{gamma}: {one.n_tokens} tokens{rounds}, {1e3 * one.latency_s:.0f} ms"
        found, at_ms = segments(one), [1e3 * delivery.at_s for delivery in one.deliveries]
        _panel(panel, found, (0.0, last_ms), title)
        panel.plot(at_ms, [-0.62] * len(at_ms), "v", markersize=1.8, color=style.BLACK, zorder=4, clip_on=False)
        told = {"trial": one.trial, "method": one.setting.method.value, "gamma": one.setting.gamma}
        for s in found:
            times = {"start_ms": 1e3 * s.start_s, "duration_ms": 1e3 * s.duration_s}
            rows.append(told | {"lane": s.lane, "part": s.part, "round": s.round} | times)
    axes[len(shown) - 1].set_xlabel("time since the image is in memory (ms)")
    if trial.rounds:
        _round_panel(axes[-1], trial, len(trial.rounds) // 2)
    words = {"trial": trial.trial, "image": trial.image_id, "label": study.main.label}
    return Drawing(figure, rows, f"{trial.n_tokens} tokens in {1e3 * trial.latency_s:.0f} ms", words)


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
        width, color = max(1e3 * s.duration_s, least), _COLORS.get((s.lane, s.part), _LANE_COLORS[s.lane])
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


def chrome_trace(trials: Sequence[Trial], title: str) -> bytes:
    """Responses as Chrome trace events (ui.perfetto.dev): a process each, all beginning at 0, a thread a lane."""
    several = len({trial.setting.link for trial in trials}) > 1
    events = []
    for pid, trial in enumerate(trials, 1):
        link = f", {link_label(trial.setting.link.spec)}" if several else ""
        name = f"{trial.setting.pair} {trial.setting.words}{link}, {trial.image_id}"
        events += [event | {"pid": pid} for event in _events(pid, name, trial)]
    document = {"displayTimeUnit": "ms", "otherData": {"title": f"{title}; {MODELLED}"}, "traceEvents": events}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _events(pid: int, name: str, trial: Trial) -> Iterator[dict[str, Any]]:
    def named(what: str, tid: int, name: str, place: int) -> Iterator[dict[str, Any]]:
        for key, value in (("name", name), ("sort_index", place)):
            yield {"ph": "M", "name": f"{what}_{key}", "tid": tid, "args": {key: value}}

    def microseconds(seconds: float) -> float:
        return round(seconds * 1e6, 1)

    yield from named("process", 0, name, pid)
    for tid, lane in enumerate(LANES, 1):
        yield from named("thread", tid, lane, tid)
    for s in segments(trial):
        args = {}
        if s.round is not None:
            told = ("drafted", "accepted", "delivered", "bytes_up", "bytes_down")
            args = {"round": s.round} | {name: getattr(trial.rounds[s.round], name) for name in told}
        times = {"ts": microseconds(s.start_s), "dur": microseconds(s.duration_s)}
        yield {"ph": "X", "name": s.part, "cat": s.lane, "tid": LANES.index(s.lane) + 1} | times | {"args": args}
    for at_s, n in ((delivery.at_s, delivery.n_tokens) for delivery in trial.deliveries):
        yield {"ph": "i", "s": "t", "name": f"{n} token{'s' * (n > 1)}", "tid": 1, "ts": microseconds(at_s)}
