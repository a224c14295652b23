"""Frames, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.wire.framing import (
    LENGTH_BYTES,
    MAX_FRAME_BYTES,
    SMALL_FRAME_BYTES,
    MalformedMessage,
    decode,
    encode,
    frame_bytes,
)
from aiflow_cli.wire.messages import (
    MAX_GAMMA,
    MAX_IMAGE_BYTES,
    MAX_NEW_TOKENS,
    MAX_PROMPT_CHARACTERS,
    TOKEN_BYTES,
    Cancel,
    Fingerprint,
    Hello,
    Message,
    Picture,
    Refused,
    Request,
    Round,
    Served,
    Tokens,
    Verdict,
    Verification,
    Welcome,
    pack_ids,
)
from tests.wire.strategies import messages


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


@given(messages)
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    data = encode(message)
    assert decode(data) == message
    assert frame_bytes(data) == len(data)


@given(messages, st.binary(max_size=9))
def test_a_frame_tells_its_size_as_soon_as_its_length_is_whole(message: Message, behind: bytes) -> None:
    data = encode(message)
    assert [frame_bytes(data[:n]) for n in range(LENGTH_BYTES)] == [0] * LENGTH_BYTES
    assert frame_bytes(data[:LENGTH_BYTES]) == frame_bytes(bytearray(data) + behind) == len(data)


LONG = "\U0001f68c"
HASH, MOST, MOST_US = "f" * 64, 2**16 - 1, 2**40 - 1


def test_the_largest_request_fits() -> None:
    committed = bytes(TOKEN_BYTES * MAX_NEW_TOKENS)
    prompt, picture = LONG * MAX_PROMPT_CHARACTERS, Picture(bytes(MAX_IMAGE_BYTES))
    request = Request(2**32 - 1, LONG * 32, MAX_GAMMA, MAX_NEW_TOKENS, prompt, picture, 1000.0, committed)
    data = encode(request)
    assert len(data) <= LENGTH_BYTES + MAX_FRAME_BYTES
    assert decode(data) == request


def test_all_answers_fit_a_small_frame() -> None:
    ids, request_id = pack_ids([2**24 - 1] * (MAX_GAMMA + 1)), 2**32 - 1
    cost = Verification(MAX_GAMMA, MOST_US, MOST_US, MAX_NEW_TOKENS, MOST_US)
    name = LONG * 255
    served = Served(name, HASH, name, HASH, name, "bfloat16", "int8", MOST, name, HASH, name, MOST, name)
    largest: list[Message] = [
        Refused(LONG * 2000),
        Tokens(request_id, MAX_NEW_TOKENS, ids, True, MOST_US, MOST_US, MOST_US),
        Verdict(request_id, MAX_NEW_TOKENS, MAX_NEW_TOKENS, MAX_GAMMA, 2**24 - 1, True, cost),
        Round(request_id, MAX_NEW_TOKENS, ids, True, MAX_GAMMA, MAX_GAMMA, MOST_US, cost),
        Welcome(2**63, Fingerprint(LONG * 200, HASH, 2**24 - 1), served),
    ]
    for message in largest:
        assert len(encode(message)) <= LENGTH_BYTES + SMALL_FRAME_BYTES
        assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_garbage_in_a_frame_is_a_message_or_malformed(body: bytes) -> None:
    try:
        message = decode(frame(body))
    except MalformedMessage:
        return
    assert decode(encode(message)) == message


@given(messages, st.binary(min_size=1, max_size=20))
def test_bytes_behind_a_message_in_its_frame_are_malformed(message: Message, extra: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(frame(encode(message)[LENGTH_BYTES:] + extra))


HELLO_WITH_MORE = b"\x93\x01\x01\x94\xa1a\xa1b\x05"
"""A hello whose fingerprint has a fourth field, which follows: one of a later version, to be skipped."""


def test_a_later_version_may_know_more_of_a_pair() -> None:
    assert decode(frame(HELLO_WITH_MORE + b"\xc0")) == Hello(1, Fingerprint("a", "b", 5))


@pytest.mark.parametrize("before", [b"", HELLO_WITH_MORE])
def test_deep_nesting_is_malformed(before: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(frame(before + b"\x91" * 100_000 + b"\xc0"))


def test_a_number_of_bytes_that_is_claimed_and_not_there_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        decode(frame(b"\x94\x03\x00\x01\xc6\xff\xff\xff\xff"))


def test_an_empty_frame_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="sent 0 bytes"):
        decode(frame(b""))
    assert decode(encode(Cancel(1))) == Cancel(1)
