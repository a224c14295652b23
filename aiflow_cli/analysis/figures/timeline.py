"""One response as segments on four lanes, for the waterfall and for Perfetto.

Positions are the device's clock. A round's parts follow one another from the delivery before it; a server-only step is
put before its token's arrival by the way down that the first token took. Up and down are modelled, since the clock does
not tell them apart (`metrics.round_ways`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from aiflow_cli.analysis.metrics import ROUND_PARTS, prefill_ways, round_ways
from aiflow_cli.decoding.methods import Method
from aiflow_cli.world.record import Trial

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


def chrome_trace(trials: Sequence[Trial], title: str) -> bytes:
    """Responses as Chrome trace events (ui.perfetto.dev): a process each, all beginning at 0, a thread a lane."""
    events = [event | {"pid": pid} for pid, trial in enumerate(trials, 1) for event in _events(pid, trial)]
    document = {"displayTimeUnit": "ms", "otherData": {"title": f"{title}; {MODELLED}"}, "traceEvents": events}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _events(pid: int, trial: Trial) -> Iterator[dict[str, Any]]:
    def named(what: str, tid: int, name: str, place: int) -> Iterator[dict[str, Any]]:
        for key, value in (("name", name), ("sort_index", place)):
            yield {"ph": "M", "name": f"{what}_{key}", "tid": tid, "args": {key: value}}

    def microseconds(seconds: float) -> float:
        return round(seconds * 1e6, 1)

    yield from named("process", 0, f"{trial.setting.pair} {trial.setting.words}, {trial.image_id}", pid)
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
