"""One response as segments on four lanes, for the waterfall and for Perfetto.

Positions are the device's clock. A round's parts follow one another from the delivery before it; a server-only step is put before its token's
arrival by the way down that the first token took. What the clock does not tell apart (way up, way down) is as the record has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from aiflow_cli.analysis.metrics import Record
from aiflow_cli.analysis.result import CO_LOCATED, ON_DEVICE

DEVICE, UPLINK, SERVER, DOWNLINK = LANES = ("device", "uplink", "server", "downlink")


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


def segments(record: Record) -> list[Segment]:
    """All segments of a response, prefill first; those without duration are left out."""
    steps = [] if record["rounds"] else _steps(record)
    return [s for s in (*_prefill(record), *_rounds(record), *steps) if s.duration_s > 0]


def _prefill(record: Record) -> Iterator[Segment]:
    prefill = record.get("prefill") or {}
    draft_s, upload_s, queue_s, server_s = (
        prefill.get(name) or 0.0 for name in ("draft_s", "upload_s", "server_queue_s", "server_s")
    )
    together = record["method"] == CO_LOCATED
    if not together:
        yield Segment(DEVICE, "prefill", 0.0, draft_s)
    if record["method"] == ON_DEVICE:
        return
    yield Segment(UPLINK, "image", 0.0, upload_s)
    yield Segment(SERVER, "queue", upload_s, queue_s)
    yield Segment(SERVER, "prefill", upload_s + queue_s, server_s)
    begun = upload_s + queue_s + server_s
    if together:
        yield Segment(SERVER, "draft prefill", begun, draft_s)
        begun += draft_s
    yield Segment(DOWNLINK, "first token", begun, record["ttft_s"] - begun)


_LANE_OF = {
    "draft_s": DEVICE,
    "encode_s": DEVICE,
    "uplink_s": UPLINK,
    "queue_s": SERVER,
    "verify_s": SERVER,
    "downlink_s": DOWNLINK,
    "apply_s": DEVICE,
}


def _rounds(record: Record) -> Iterator[Segment]:
    for number, r in enumerate(record["rounds"]):
        at = record["deliveries"][number][0]
        for part, lane in _LANE_OF.items():
            where = SERVER if part == "draft_s" and record["method"] == CO_LOCATED else lane
            yield Segment(where, part.removesuffix("_s"), at, r[part], number)
            at += r[part]


def _steps(record: Record) -> Iterator[Segment]:
    lane = DEVICE if record["method"] == ON_DEVICE else SERVER
    prefill = record.get("prefill") or {}
    begun = sum(prefill.get(name) or 0.0 for name in ("upload_s", "server_queue_s", "server_s"))
    down_s = max(0.0, record["ttft_s"] - begun) if lane == SERVER else 0.0
    free = 0.0
    for (at, _), step_s in zip(record["deliveries"][1:], record.get("steps_s") or [], strict=False):
        start = max(free, at - down_s - step_s)
        yield Segment(lane, "decode", start, step_s)
        free = start + step_s
        if lane == SERVER:
            yield Segment(DOWNLINK, "token", free, max(0.0, at - free))


def chrome_trace(records: Sequence[Record], title: str) -> bytes:
    """Responses as Chrome trace events (opens in ui.perfetto.dev): a process each, all beginning at 0, a thread a lane."""
    events = [event for number, record in enumerate(records) for event in _events(number, record)]
    document = {"displayTimeUnit": "ms", "otherData": {"title": title}, "traceEvents": events}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _events(number: int, record: Record) -> Iterable[dict[str, Any]]:
    pid = number + 1
    gamma = "" if record["gamma"] is None else f" gamma {record['gamma']}"
    name = f"{record['pair']} {record['method']}{gamma}, {record['image_id']}"
    yield {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}
    yield {"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": pid}}
    for lane in LANES:
        tid = LANES.index(lane) + 1
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": lane}}
        yield {"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": tid}}
    for segment in segments(record):
        yield {
            "ph": "X",
            "name": segment.part,
            "cat": segment.lane,
            "pid": pid,
            "tid": LANES.index(segment.lane) + 1,
            "ts": round(segment.start_s * 1e6, 1),
            "dur": round(segment.duration_s * 1e6, 1),
            "args": _arguments(record, segment),
        }
    for at, n_tokens in record["deliveries"]:
        event = {"ph": "i", "s": "t", "name": f"{n_tokens} token{'s' if n_tokens > 1 else ''}", "pid": pid, "tid": 1}
        yield event | {"ts": round(at * 1e6, 1)}


def _arguments(record: Record, segment: Segment) -> dict[str, Any]:
    if segment.round is None:
        return {}
    r = record["rounds"][segment.round]
    return {"round": segment.round} | {
        name: r[name] for name in ("drafted", "accepted", "delivered", "bytes_up", "bytes_down")
    }
