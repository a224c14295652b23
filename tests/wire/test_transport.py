"""A connection's bytes, however they are cut on the way, and its times, which are handed in."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.errors import ProtocolError
from aiflow_cli.wire.framing import (
    LENGTH_BYTES,
    MAX_FRAME_BYTES,
    SMALL_FRAME_BYTES,
    FrameTooLarge,
    MalformedMessage,
    encode,
)
from aiflow_cli.wire.messages import Cancel, Message, Refused
from aiflow_cli.wire.transport import LONGEST_MESSAGE_S, MIN_BYTES_PER_S, Arrived, Transport, allowed_s
from tests.wire.strategies import messages

several = st.lists(messages, max_size=6)
SIZES = st.integers(0, MAX_FRAME_BYTES)
SECONDS = st.floats(0, 1e5)
BEGUN_S = 100.0


def transport(max_frame_bytes: int = MAX_FRAME_BYTES) -> Transport:
    return Transport(max_frame_bytes, BEGUN_S)


def heard(reader: Transport, chunks: Sequence[bytes], at_s: float = BEGUN_S) -> list[Arrived]:
    """What comes of chunks that are read a second apart."""
    arrived: list[Arrived] = []
    for number, chunk in enumerate(chunks):
        reader.receive(chunk, at_s + number)
        arrived += iter(reader.next, None)
    return arrived


def cut(stream: bytes, data: st.DataObject) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True) if begin < end]


@given(several)
def test_byte_by_byte(sent: list[Message]) -> None:
    """Each message comes with its last byte, and is stamped with its time."""
    stream = b"".join(map(encode, sent))
    reader, expected, at = transport(), [], 0
    for message in sent:
        at += len(encode(message))
        expected.append(Arrived(message, len(encode(message)), BEGUN_S + at - 1))
    assert heard(reader, [bytes([byte]) for byte in stream]) == expected
    assert reader.pending == reader.missing == 0


@given(several, st.data())
def test_in_pieces_of_any_size(sent: list[Message], data: st.DataObject) -> None:
    stream = b"".join(map(encode, sent))
    arrived = heard(transport(), cut(stream, data))
    assert [one.message for one in arrived] == sent
    assert sum(one.n_bytes for one in arrived) == len(stream)


@given(messages, messages, st.data())
def test_trailing_data_waits_for_its_rest(first: Message, second: Message, data: st.DataObject) -> None:
    tail = encode(second)
    at = data.draw(st.integers(0, len(tail) - 1))
    reader = transport()
    assert [one.message for one in heard(reader, [encode(first) + tail[:at]])] == [first]
    assert reader.pending == at
    assert reader.missing == (len(tail) - at if at >= LENGTH_BYTES else 0)
    assert [one.message for one in heard(reader, [tail[at:]])] == [second]


@given(several, st.binary(min_size=9, max_size=40), st.data())
def test_what_came_whole_before_a_fault_comes_out_however_it_is_cut(
    sent: list[Message], junk: bytes, data: st.DataObject
) -> None:
    stream = b"".join(map(encode, sent)) + b"\xff" + junk
    reader, arrived = transport(), list[Message]()

    def read() -> None:
        for chunk in cut(stream, data):
            reader.receive(chunk, BEGUN_S)
            while (one := reader.next()) is not None:
                arrived.append(one.message)

    with pytest.raises(FrameTooLarge):
        read()
    assert arrived == sent


@given(st.integers(SMALL_FRAME_BYTES + 1, 2**32 - 1), st.binary(max_size=20))
def test_a_length_over_the_limit_is_refused_at_once(length: int, rest: bytes) -> None:
    with pytest.raises(FrameTooLarge, match=f"of {length:,} bytes, over the limit of 16,384"):
        heard(transport(SMALL_FRAME_BYTES), [length.to_bytes(LENGTH_BYTES, "big") + rest])


def test_the_limit_itself_is_none() -> None:
    reader = transport(SMALL_FRAME_BYTES)
    assert heard(reader, [SMALL_FRAME_BYTES.to_bytes(LENGTH_BYTES, "big")]) == []
    assert reader.missing == SMALL_FRAME_BYTES


def test_a_limit_that_is_raised_holds_for_what_is_there_already() -> None:
    """A request right behind a hello."""
    reader, large = transport(SMALL_FRAME_BYTES), bytes(SMALL_FRAME_BYTES)
    reader.receive(encode(Cancel(1)) + (len(large) + 1).to_bytes(LENGTH_BYTES, "big"), BEGUN_S)
    assert reader.next() is not None
    reader.max_frame_bytes = MAX_FRAME_BYTES
    assert reader.next() is None


def test_an_announcement_alone_reserves_nothing() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FrameTooLarge):
            heard(transport(), [b"\xff\xff\xff\xff"])
        assert heard(transport(), [MAX_FRAME_BYTES.to_bytes(LENGTH_BYTES, "big")]) == []
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100_000


@given(messages, st.data())
def test_a_damaged_message_is_another_message_or_malformed(message: Message, data: st.DataObject) -> None:
    damaged = bytearray(encode(message))
    damaged[data.draw(st.integers(LENGTH_BYTES, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    reader = transport()
    try:
        assert len(heard(reader, [bytes(damaged)])) == 1
    except MalformedMessage:
        assert reader.pending == 0


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_garbage_on_the_line_never_raises_anything_else(chunks: list[bytes]) -> None:
    reader = transport(SMALL_FRAME_BYTES)
    try:
        heard(reader, chunks)
    except ProtocolError:
        return
    assert reader.pending <= sum(map(len, chunks))


@given(several, st.data())
def test_what_is_sent_is_one_stream_however_little_of_it_goes_out_at_once(
    sent: list[Message], data: st.DataObject
) -> None:
    writer, out = transport(), bytearray()
    expected = b"".join(map(encode, sent))
    waiting = list(sent)
    while waiting or writer.unsent:
        if data.draw(st.booleans()) and waiting:
            assert writer.send(waiting[0]) == len(encode(waiting.pop(0)))
        due = writer.to_send()
        taken = data.draw(st.integers(min(1, len(due)), len(due)))
        out += due[:taken]
        writer.sent(taken)
        assert writer.unsent == len(expected) - len(out) - sum(len(encode(message)) for message in waiting)
    assert out == expected
    assert not writer.to_send()


@given(SECONDS, st.floats(0, 3), st.integers(1, SMALL_FRAME_BYTES))
def test_a_message_has_its_time_from_its_first_byte_on(quiet_s: float, share: float, size: int) -> None:
    """However long it was quiet before, and whatever comes of it in between."""
    reader, begun_s, grace_s = transport(), BEGUN_S + quiet_s, 30.0
    limit_s = grace_s + (LENGTH_BYTES + size) / MIN_BYTES_PER_S
    taken_s = share * limit_s
    assert reader.heard_at_s == BEGUN_S
    assert not reader.is_late(begun_s, grace_s)
    reader.receive(size.to_bytes(LENGTH_BYTES, "big"), begun_s)
    assert reader.next() is None
    reader.receive(bytes(size - 1), begun_s + taken_s / 2)
    assert reader.next() is None
    assert reader.heard_at_s == begun_s + taken_s / 2
    assert reader.is_late(begun_s + taken_s, grace_s) == (begun_s + taken_s - begun_s > limit_s)


def test_the_last_moment_is_in_time() -> None:
    reader = transport()
    reader.receive((500 - LENGTH_BYTES).to_bytes(LENGTH_BYTES, "big"), BEGUN_S)
    assert not reader.is_late(BEGUN_S + 30.5, 30.0)
    assert reader.is_late(BEGUN_S + 30.51, 30.0)


def test_the_next_message_has_its_own_time() -> None:
    reader, data = transport(), encode(Refused("x" * 100))
    reader.receive(data[:50], BEGUN_S)
    assert reader.next() is None
    reader.receive(data[50:] + data[:9], BEGUN_S + 20)
    assert reader.next() is not None
    assert not reader.is_late(BEGUN_S + 49, 30.0)
    assert reader.is_late(BEGUN_S + 51, 30.0)
    reader.receive(data[9:], BEGUN_S + 52)
    assert reader.next() is not None
    assert not reader.is_late(BEGUN_S + 1e9, 30.0)


@given(SIZES, SIZES, st.floats(0, 60))
def test_a_larger_message_has_more_time_and_none_has_for_ever(one: int, other: int, grace_s: float) -> None:
    small, large = sorted((one, other))
    assert grace_s <= allowed_s(small, grace_s) <= allowed_s(large, grace_s) <= LONGEST_MESSAGE_S
    assert allowed_s(large, grace_s) >= large / 10_000  # at 10 KB/s everything comes in time
