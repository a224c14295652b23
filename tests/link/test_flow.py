"""One direction of the relay in virtual time: its bucket, its turns, its delay, its ends."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_cli.link.bucket import TokenBucket, completion_time_s
from aiflow_cli.link.flow import CHUNK_BYTES, MAX_LINE_BYTES, MAX_WAITING_BYTES, Chunk, Direction, Flow

RATE, BURST = 1e6, 10_000


class Offer(NamedTuple):
    """Bytes of a flow; none are the end of its stream."""

    at_s: float
    flow: Flow
    data: bytes


class Arrived(NamedTuple):
    """A chunk as its destination gets it."""

    at_s: float
    chunk: Chunk


def drive(direction: Direction, offers: list[Offer]) -> list[Arrived]:
    """What the relay's loop does, woken exactly when it asks to be."""
    arrived: list[Arrived] = []
    waiting = list(offers)
    now_s = 0.0
    while waiting or direction.next_event_s()[0] < math.inf:
        next_s, _ = direction.next_event_s()
        now_s = max(now_s, min(next_s, waiting[0].at_s if waiting else math.inf))
        while waiting and waiting[0].at_s <= now_s:
            offer = waiting.pop(0)
            direction.offer(offer.flow, offer.data, now_s)
        direction.schedule(now_s)
        arrived += [Arrived(now_s, chunk) for chunk in direction.due(now_s)]
    return arrived


def text_of(arrived: list[Arrived]) -> dict[object, bytes]:
    texts: dict[object, bytes] = defaultdict(bytes)
    for _, chunk in arrived:
        texts[chunk.flow.key] += bytes(chunk.data)
    return texts


@st.composite
def traffic(draw: st.DrawFn) -> list[Offer]:
    """Up to four flows that talk at the same time; some end."""
    flows = [Flow(key) for key in range(draw(st.integers(1, 4)))]
    sizes = st.integers(1, 60) | st.integers(1, 30_000)
    lines = st.tuples(st.just(0.0) | st.floats(0, 0.03), st.sampled_from(flows), sizes)
    now_s, offers = 0.0, []
    for number, (gap_s, flow, size) in enumerate(draw(st.lists(lines, min_size=1, max_size=15))):
        now_s += gap_s
        offers.append(Offer(now_s, flow, bytes([number % 251]) * size))
    ending = draw(st.lists(st.sampled_from(flows), unique_by=id))
    return offers + [Offer(now_s, flow, b"") for flow in ending]


rates = st.sampled_from([5e4, 5e5, 1e6, 2e6, 8e6])
bursts = st.integers(1, 40_000)
delays = st.sampled_from([0.0, 0.005, 0.05])


@settings(max_examples=150)
@given(traffic(), rates | st.just(math.inf), bursts, delays)
def test_bytes_of_each_flow_arrive_whole_and_in_order(
    offers: list[Offer], rate: float, burst: int, delay_s: float
) -> None:
    arrived = drive(Direction(rate, burst, delay_s), offers)
    sent: dict[object, bytes] = defaultdict(bytes)
    for offer in offers:
        sent[offer.flow.key] += offer.data
    assert text_of(arrived) == sent
    assert all(offer.flow.waiting_bytes == 0 for offer in offers)


@settings(max_examples=150)
@given(traffic(), rates, bursts, delays)
def test_the_last_byte_arrives_when_arithmetic_says(
    offers: list[Offer], rate: float, burst: int, delay_s: float
) -> None:
    """Turns change which flow is first, never how long all of them take; no chunk is early, none breaks the bucket."""
    arrived = drive(Direction(rate, burst, delay_s), offers)
    bucket = TokenBucket(rate, burst)
    last_s = max(bucket.admit(offer.at_s, len(offer.data)) for offer in offers if offer.data)
    times = [at_s for at_s, chunk in arrived if chunk.data]
    assert times[-1] == pytest.approx(last_s + delay_s, abs=1e-9)
    passed = 0
    for at_s, chunk in arrived:
        passed += len(chunk.data)
        assert passed <= burst + rate * (at_s - delay_s - offers[0].at_s) + 1e-3


@settings(max_examples=100)
@given(traffic(), rates | st.just(math.inf), bursts, delays)
def test_an_end_arrives_once_and_last(offers: list[Offer], rate: float, burst: int, delay_s: float) -> None:
    arrived = drive(Direction(rate, burst, delay_s), offers)
    ended = {offer.flow.key for offer in offers if not offer.data}
    chunks: dict[object, list[bool]] = defaultdict(list)
    for _, chunk in arrived:
        chunks[chunk.flow.key].append(bool(chunk.data))
    for key, kinds in chunks.items():
        assert kinds.count(False) == (key in ended)
        assert key not in ended or kinds[-1] is False
    assert ended <= set(chunks)


def test_an_end_that_is_said_twice_arrives_once_and_at_once() -> None:
    """What a connection broke of may be found out after its end was read."""
    direction, flow = Direction(RATE, BURST, 0.5), Flow("a")
    for now_s in (1.0, 1.1):
        direction.offer(flow, b"", now_s)
        assert direction.schedule(now_s) == []
    assert direction.next_event_s() == (1.5, True)
    assert [bytes(chunk.data) for chunk in direction.due(math.inf)] == [b""]


@settings(max_examples=100)
@given(st.integers(1, 120_000), rates, bursts, delays)
def test_one_message_takes_the_closed_form(n_bytes: int, rate: float, burst: int, delay_s: float) -> None:
    arrived = drive(Direction(rate, burst, delay_s), [Offer(0.0, Flow("a"), bytes(n_bytes))])
    assert arrived[-1].at_s == pytest.approx(completion_time_s(n_bytes, rate, burst, delay_s), abs=1e-9)
    assert [chunk.ends_message for _, chunk in arrived] == [False] * (len(arrived) - 1) + [True]


def test_chunks_are_what_the_rate_carries_in_a_millisecond() -> None:
    arrived = drive(Direction(RATE, 1, 0.0), [Offer(0.0, Flow("a"), bytes(10_500))])
    assert [len(chunk.data) for _, chunk in arrived] == [1000] * 10 + [500]
    gaps = [b.at_s - a.at_s for a, b in itertools.pairwise(arrived)]
    assert gaps == pytest.approx([1e-3] * 9 + [0.5e-3], abs=1e-9)
    slow = drive(Direction(500.0, 1, 0.0), [Offer(0.0, Flow("a"), b"abc")])
    assert [bytes(chunk.data) for _, chunk in slow] == [b"a", b"b", b"c"]


@pytest.mark.parametrize("n_flows", [2, 5, 20])
def test_flows_take_turns(n_flows: int) -> None:
    arrived = drive(Direction(RATE, BURST, 0.0), [Offer(0.0, Flow(key), bytes(50_000)) for key in range(n_flows)])
    got = [0] * n_flows
    for _, chunk in arrived[: -2 * n_flows]:
        assert isinstance(chunk.flow.key, int)
        got[chunk.flow.key] += len(chunk.data)
        assert max(got) - min(got) <= 1000


def test_a_small_message_waits_for_one_turn_of_the_others_only() -> None:
    bulk = [Offer(0.0, Flow(key), bytes(60_000)) for key in range(4)]
    small = Flow("small")
    arrived = drive(Direction(RATE, BURST, 0.0), [*bulk, Offer(0.1, small, bytes(40))])
    (at_s,) = [at_s for at_s, chunk in arrived if chunk.flow is small]
    assert 0.1 <= at_s < 0.1 + 6e-3
    assert arrived[-1].at_s == pytest.approx((240_040 - BURST) / RATE)


def test_a_source_may_go_on_when_its_bytes_are_scheduled_not_when_they_arrive() -> None:
    """Else a delay longer than the queue would stall the link."""
    direction, flow = Direction(RATE, MAX_WAITING_BYTES, delay_s=10.0), Flow("a")
    direction.offer(flow, bytes(MAX_WAITING_BYTES), 0.0)
    assert flow.waiting_bytes == MAX_WAITING_BYTES
    assert set(direction.schedule(0.0)) == {flow}
    assert flow.waiting_bytes == 0
    assert direction.due(9.0) == []
    assert direction.next_event_s()[0] == pytest.approx(10.0)


def test_what_waits_is_counted_as_it_goes() -> None:
    direction, flow = Direction(RATE, BURST, 0.0), Flow("a")
    direction.offer(flow, bytes(60_000), 0.0)
    for now_ms in range(0, 60, 7):
        direction.schedule(now_ms / 1e3)
        assert flow.waiting_bytes == sum(map(len, flow.waiting))
        passed = 60_000 - flow.waiting_bytes
        assert passed <= BURST + RATE * now_ms / 1e3 + 1000  # the chunk that is leaving counts as gone


def test_an_unlimited_direction_lets_all_go_at_once() -> None:
    arrived = drive(Direction(math.inf, BURST, 0.02), [Offer(1.0, Flow("a"), bytes(500_000))])
    assert {at_s for at_s, _ in arrived} == {1.02}


def test_idle_means_never() -> None:
    assert Direction(RATE, BURST, 0.0).next_event_s() == (math.inf, False)
    assert Direction(math.inf, BURST, 0.0).next_event_s() == (math.inf, False)


def test_only_the_end_of_a_message_is_worth_spinning_for() -> None:
    direction = Direction(RATE, 2000, 0.0)
    direction.offer(Flow("a"), bytes(3000), 0.0)
    direction.schedule(0.0)
    direction.due(0.0)
    assert list(direction.next_event_s()) == pytest.approx([1e-3, True])
    direction.offer(Flow("b"), bytes(3000), 0.0)
    assert direction.next_event_s()[1] is True
    direction.due(1e-3)
    assert list(direction.next_event_s()) == pytest.approx([1e-3, False])


def test_a_dropped_flow_leaves_the_others_as_they_are() -> None:
    direction, kept, dropped = Direction(RATE, 1, 0.0), Flow("kept"), Flow("dropped")
    direction.offer(dropped, bytes(5000), 0.0)
    direction.offer(kept, bytes(5000), 0.0)
    direction.schedule(0.0)
    direction.drop(dropped)
    arrived = drive(direction, [])
    assert {chunk.flow.key for _, chunk in arrived} == {"kept"}
    assert sum(len(chunk.data) for _, chunk in arrived) == 5000
    direction.drop(dropped)


def drive_greedy(direction: Direction, flows: list[Flow], n_bytes: int) -> list[Arrived]:
    """What the relay's loop does with sources that send as fast as they are read: `n_bytes` each, in reads of 64 KB."""
    piece, left = bytes(65_536), dict.fromkeys(flows, n_bytes)
    arrived: list[Arrived] = []
    now_s, held = 0.0, 0
    while any(left.values()) or direction.next_event_s()[0] < math.inf:
        for flow in flows:
            while left[flow] and flow.has_room(len(flows)):
                size = min(len(piece), left[flow])
                direction.offer(flow, piece[:size] if size < len(piece) else piece, now_s)
                left[flow] -= size
                direction.schedule(now_s)
        held = max(held, sum(flow.line_bytes + flow.waiting_bytes for flow in flows))
        now_s = max(now_s, direction.next_event_s()[0])
        direction.schedule(now_s)
        arrived += [Arrived(now_s, chunk) for chunk in direction.due(now_s)]
    assert held <= MAX_LINE_BYTES + len(flows) * 2 * len(piece) * (1 + CHUNK_BYTES)
    assert [flow.line_bytes for flow in flows] == [0] * len(flows)
    return arrived


@settings(max_examples=12)
@given(st.integers(1, 5), st.sampled_from([math.inf, 5e8]), st.sampled_from([1.0, 60.0]))
def test_what_is_under_way_is_bounded(n_flows: int, rate: float, delay_s: float) -> None:
    """A delay that holds far more than the bound: the sources are not read meanwhile, and nothing is lost."""
    flows = [Flow(key) for key in range(n_flows)]
    arrived = drive_greedy(Direction(rate, BURST, delay_s), flows, 150_000_000 // n_flows)
    assert sum(len(chunk.data) for _, chunk in arrived) == 150_000_000 // n_flows * n_flows
    assert arrived[-1].at_s >= 2 * delay_s


def test_a_source_has_room_up_to_its_share() -> None:
    assert Flow("a", waiting_bytes=MAX_WAITING_BYTES - 1, line_bytes=MAX_LINE_BYTES // 4 - 1).has_room(4)
    assert not Flow("a", waiting_bytes=MAX_WAITING_BYTES).has_room(4)
    assert not Flow("a", line_bytes=MAX_LINE_BYTES // 4).has_room(4)


def test_small_pieces_count_for_what_they_take() -> None:
    """A byte at a time, a minute long: a chunk takes more memory than its byte."""
    direction, flow = Direction(math.inf, BURST, 60.0), Flow("a")
    sent = 0
    while flow.has_room(1):
        direction.offer(flow, b"x", sent * 1e-5)
        direction.schedule(sent * 1e-5)
        sent += 1
    assert sent == pytest.approx(MAX_LINE_BYTES / (1 + CHUNK_BYTES), abs=1)


@pytest.mark.parametrize(
    ("rate", "delay_s"), [(1e5, 10.0), (1e6, 0.6), (1e7, 0.2), (1e8, 0.2), (1e8, 0.5)], ids=lambda value: f"{value:g}"
)
def test_the_bound_leaves_a_shaped_link_as_it_is(rate: float, delay_s: float) -> None:
    """A satellite's delay, and rates far above the paper's: a long upload takes the closed form, to the microsecond."""
    n_bytes = round(3 * rate * max(delay_s, 0.3))
    arrived = drive_greedy(Direction(rate, BURST, delay_s), [Flow("a")], n_bytes)
    assert arrived[-1].at_s == pytest.approx(completion_time_s(n_bytes, rate, BURST, delay_s), abs=1e-6)


def test_a_link_without_a_rate_passes_three_hundred_megabytes_a_second_over_a_fifth_of_one() -> None:
    arrived = drive_greedy(Direction(math.inf, BURST, 0.2), [Flow("a")], 60_000_000)
    assert arrived[-1].at_s == 0.2


def test_a_dropped_flow_holds_nothing() -> None:
    direction, flow = Direction(math.inf, 1, 1.0), Flow("dropped")
    direction.offer(flow, bytes(5000), 0.0)
    direction.schedule(0.0)
    assert flow.line_bytes > 0
    direction.drop(flow)
    assert flow.line_bytes == 0


def test_without_a_bucket_what_waits_may_go_at_once() -> None:
    direction = Direction(math.inf, 1, 1.0)
    direction.offer(Flow("first"), bytes(10), 0.0)
    assert direction.next_event_s() == (-math.inf, False)
