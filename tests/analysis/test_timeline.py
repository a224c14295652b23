"""One response on four lanes, and as Chrome trace events."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import pytest

from aiflow_cli.analysis.figures.timeline import LANES, chrome_trace, segments
from aiflow_cli.analysis.result import Result
from aiflow_cli.analysis.study import Study, typical
from aiflow_cli.decoding.methods import Method
from aiflow_cli.world.record import Trial

METHODS = [(Method.SERVER_ONLY, None), (Method.SPECULATIVE, 4), (Method.CO_LOCATED, 4), (Method.ON_DEVICE, None)]


def a_response(result: Result, method: Method, gamma: int | None) -> Trial:
    return result.arm(result.series()[0], method, gamma).trials[0]


@pytest.mark.parametrize(("method", "gamma"), METHODS)
def test_segments_lie_within_the_response(method: Method, gamma: int | None, figure6: Result) -> None:
    record = a_response(figure6, method, gamma)
    found = segments(record)
    assert {s.lane for s in found} <= set(LANES)
    assert min(s.start_s for s in found) >= 0
    assert max(s.end_s for s in found) == pytest.approx(record.latency_s, abs=1e-6)
    for lane in LANES:
        mine = sorted((s for s in found if s.lane == lane and s.part != "prefill"), key=lambda s: s.start_s)
        assert all(b.start_s >= a.end_s - 1e-9 for a, b in itertools.pairwise(mine)), lane


def test_parts_of_a_round_follow_one_another(figure6: Result) -> None:
    record = a_response(figure6, Method.SPECULATIVE, 4)
    for number, r in enumerate(record.rounds):
        mine = [s for s in segments(record) if s.round == number]
        assert mine[0].start_s == pytest.approx(record.deliveries[number].at_s)
        assert mine[-1].end_s == pytest.approx(record.deliveries[number + 1].at_s)
        assert sum(s.duration_s for s in mine) == pytest.approx(r.wall_s)


def test_who_drafts_is_where_it_is_drawn(figure6: Result) -> None:
    drafting = {
        m: {s.lane for s in segments(a_response(figure6, m, 4)) if s.part == "draft"}
        for m in (Method.SPECULATIVE, Method.CO_LOCATED)
    }
    assert drafting == {Method.SPECULATIVE: {"device"}, Method.CO_LOCATED: {"server"}}
    assert {s.lane for s in segments(a_response(figure6, Method.ON_DEVICE, None))} == {"device"}
    prefill = next(s for s in segments(a_response(figure6, Method.CO_LOCATED, 4)) if s.part == "draft prefill")
    assert prefill.lane == "server"


def test_a_trace_that_perfetto_reads(figure6: Result) -> None:
    records = [a_response(figure6, *method) for method in METHODS]
    trace = json.loads(chrome_trace(records, "result x, commit y"))
    events = trace["traceEvents"]
    assert trace["otherData"]["title"] == "result x, commit y; the link's parts up and down are modelled"
    assert Counter(e["ph"] for e in events)["X"] == sum(len(segments(r)) for r in records)
    assert {e["pid"] for e in events} == {1, 2, 3, 4}
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert [names[1, tid] for tid in (1, 2, 3, 4)] == list(LANES)
    for event in events:
        if event["ph"] == "X":
            assert event["ts"] >= 0
            assert event["dur"] >= 0
            assert names[event["pid"], event["tid"]] == event["cat"]
    drafts = [e for e in events if e["ph"] == "X" and e["name"] == "draft" and e["pid"] == 2]
    assert [e["args"]["round"] for e in drafts] == list(range(len(records[1].rounds)))


def test_responses_over_several_links_are_told_apart(delays: Result) -> None:
    events = json.loads(chrome_trace(Study(delays).responses(), ""))["traceEvents"]
    names = [e["args"]["name"] for e in events if e["name"] == "process_name"]
    speculative = [name for name in names if "speculative gamma 4" in name]
    assert [name.split(", ", 1)[1].rsplit(", ", 1)[0] for name in speculative] == [
        "1 MB/s",
        "1 MB/s, 5 ms",
        "1 MB/s, 20 ms",
    ]


def test_the_typical_response_is_the_median(figure6: Result) -> None:
    trials = figure6.arm(figure6.series()[0], Method.SPECULATIVE, 4).trials
    paces = sorted(r.latency_s / r.n_tokens for r in trials)
    chosen = typical(trials)
    assert chosen.latency_s / chosen.n_tokens == paces[(len(paces) - 1) // 2]
    assert typical(list(reversed(trials))) == chosen
