"""Frames, however they are cut on the way, and what is no frame."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.errors import ProtocolError
from aiflow_cli.wire.framing import (
    LENGTH_BYTES,
    MAX_FRAME_BYTES,
    SMALL_FRAME_BYTES,
    FrameReader,
    FrameTooLarge,
    MalformedMessage,
    encode,
)
from aiflow_cli.wire.messages import (
    MAX_GAMMA,
    MAX_IMAGE_BYTES,
    MAX_PROMPT_CHARACTERS,
    Cancel,
    Fingerprint,
    Hello,
    Message,
    Refused,
    Request,
    Served,
    Tokens,
    Welcome,
    pack_ids,
)
from tests.wire.strategies import messages

several = st.lists(messages, max_size=6)


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


@given(messages)
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    data = encode(message)
    reader = FrameReader()
    assert reader.feed(data) == [(message, len(data))]
    assert reader.pending == 0


@given(several)
def test_byte_by_byte(sent: list[Message]) -> None:
    reader = FrameReader()
    received = [pair for message in sent for byte in encode(message) for pair in reader.feed(bytes([byte]))]
    assert received == [(message, len(encode(message))) for message in sent]
    assert reader.pending == 0


@given(several, st.data())
def test_in_pieces_of_any_size(sent: list[Message], data: st.DataObject) -> None:
    stream, reader, received = b"".join(map(encode, sent)), FrameReader(), []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += reader.feed(stream[begin:end])
    assert [message for message, _ in received] == sent
    assert sum(size for _, size in received) == len(stream)


@given(messages, messages, st.data())
def test_trailing_data_waits_for_its_rest(first: Message, second: Message, data: st.DataObject) -> None:
    tail = encode(second)
    cut = data.draw(st.integers(0, len(tail) - 1))
    reader = FrameReader()
    assert [message for message, _ in reader.feed(encode(first) + tail[:cut])] == [first]
    assert reader.pending == cut
    assert [message for message, _ in reader.feed(tail[cut:])] == [second]


@given(st.integers(SMALL_FRAME_BYTES + 1, 2**32 - 1), st.binary(max_size=20))
def test_a_length_over_the_limit_is_refused_at_once(length: int, rest: bytes) -> None:
    with pytest.raises(FrameTooLarge, match="over the limit of 16,384"):
        FrameReader(SMALL_FRAME_BYTES).feed(length.to_bytes(LENGTH_BYTES, "big") + rest)


def test_an_announcement_alone_reserves_nothing() -> None:
    reader = FrameReader()
    tracemalloc.start()
    try:
        with pytest.raises(FrameTooLarge):
            reader.feed(b"\xff\xff\xff\xff")
        assert FrameReader().feed(MAX_FRAME_BYTES.to_bytes(LENGTH_BYTES, "big")) == []
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100_000


def test_the_limit_itself_is_allowed() -> None:
    request = Request(1, "server-only", 0, 1, "\U0001f68c" * MAX_PROMPT_CHARACTERS, bytes(MAX_IMAGE_BYTES))
    data = encode(request)
    assert len(data) <= LENGTH_BYTES + MAX_FRAME_BYTES
    assert FrameReader().feed(data) == [(request, len(data))]


NAME = "\U0001f68c" * 255
HASH, MOST = "f" * 64, 2**16 - 1
LARGEST = Served(NAME, HASH, NAME, HASH, NAME, "bfloat16", "int8", MOST, NAME, HASH, NAME, MOST, NAME)


def test_all_answers_fit_a_small_frame() -> None:
    largest: list[Message] = [
        Refused("\U0001f68c" * 2000),
        Tokens(pack_ids([2**24 - 1] * (MAX_GAMMA + 1)), True, 2**40 - 1, 2**40 - 1, 8192, 8192, 2**40 - 1),
        Welcome(2**63, Fingerprint("\U0001f68c" * 200, "f" * 64, 2**24 - 1), LARGEST),
    ]
    assert FrameReader(SMALL_FRAME_BYTES).feed(b"".join(map(encode, largest))) == [(m, len(encode(m))) for m in largest]


@given(st.binary(max_size=200))
def test_garbage_in_a_frame_is_a_message_or_malformed(body: bytes) -> None:
    try:
        ((message, _),) = FrameReader().feed(frame(body))
    except MalformedMessage:
        return
    ((again, _),) = FrameReader().feed(encode(message))
    assert again == message


@given(messages, st.data())
def test_a_damaged_message_is_another_message_or_malformed(message: Message, data: st.DataObject) -> None:
    body = bytearray(encode(message)[LENGTH_BYTES:])
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    reader = FrameReader()
    try:
        assert len(reader.feed(frame(bytes(body)))) == 1
    except MalformedMessage:
        assert reader.pending == 0


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_garbage_on_the_line_never_raises_anything_else(chunks: list[bytes]) -> None:
    reader = FrameReader(SMALL_FRAME_BYTES)
    try:
        for chunk in chunks:
            reader.feed(chunk)
    except ProtocolError:
        return
    assert reader.pending <= sum(map(len, chunks))


@given(messages, st.binary(min_size=1, max_size=20))
def test_bytes_behind_a_message_in_its_frame_are_malformed(message: Message, extra: bytes) -> None:
    with pytest.raises(MalformedMessage):
        FrameReader().feed(frame(encode(message)[LENGTH_BYTES:] + extra))


HELLO_WITH_MORE = b"\x93\x01\x01\x94\xa1a\xa1b\x05"
"""A hello whose fingerprint has a fourth field, which follows: one of a later version, to be skipped."""


def test_a_later_version_may_know_more_of_a_pair() -> None:
    ((hello, _),) = FrameReader().feed(frame(HELLO_WITH_MORE + b"\xc0"))
    assert hello == Hello(1, Fingerprint("a", "b", 5))


@pytest.mark.parametrize("before", [b"", HELLO_WITH_MORE])
def test_deep_nesting_is_malformed(before: bytes) -> None:
    with pytest.raises(MalformedMessage):
        FrameReader().feed(frame(before + b"\x91" * 100_000 + b"\xc0"))


def test_a_number_of_bytes_that_is_claimed_and_not_there_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        FrameReader().feed(frame(b"\x94\x03\x00\x01\xc6\xff\xff\xff\xff"))


def test_an_empty_frame_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        FrameReader().feed(encode(Cancel(1)) + bytes(LENGTH_BYTES))
