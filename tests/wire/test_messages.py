"""Messages keep what they carry, and refuse what they must not."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.wire import messages as m
from aiflow_cli.wire.framing import MalformedMessage, decode, encode
from aiflow_cli.wire.messages import pack_ids, unpack_ids
from tests.wire.strategies import SERVED, token_ids

SECONDS_US = st.integers(1_000_000, 60_000_000)
"""Durations of seconds: a large target on a small machine."""
VOCABULARY = 92_553
"""That of InternVL2-2B."""


@given(st.lists(token_ids, max_size=100))
def test_ids_come_out_as_they_went_in(ids: list[int]) -> None:
    assert unpack_ids(pack_ids(ids)) == tuple(ids)
    assert len(pack_ids(ids)) == 3 * len(ids)


@pytest.mark.parametrize("index", [2**24, -1])
def test_an_id_that_three_bytes_cannot_hold_is_not_cut(index: int) -> None:
    with pytest.raises(OverflowError):
        pack_ids([1, index])


@pytest.mark.parametrize("size", [1, 2, 4, 61])
def test_bytes_that_are_no_ids_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes are no whole number of 3-byte ids"):
        unpack_ids(bytes(size))


REQUEST_IDS = st.integers(0, 65_535)


@given(
    REQUEST_IDS,
    st.integers(0, m.MAX_NEW_TOKENS),
    st.integers(0, m.MAX_NEW_TOKENS),
    st.lists(st.integers(0, VOCABULARY - 1), min_size=4, max_size=4),
)
def test_a_draft_of_four_costs_at_most_40_bytes(request_id: int, epoch: int, base: int, ids: list[int]) -> None:
    assert len(encode(m.Draft(request_id, epoch, base, pack_ids(ids)))) <= 40


@given(
    REQUEST_IDS,
    st.integers(0, m.MAX_NEW_TOKENS),
    st.integers(0, m.MAX_NEW_TOKENS),
    st.integers(0, 4),
    st.integers(0, VOCABULARY - 1) | st.none(),
    st.booleans(),
    st.builds(m.Verification, st.integers(0, 4), SECONDS_US, SECONDS_US, st.integers(0, m.MAX_NEW_TOKENS), SECONDS_US),
)
def test_a_verdict_costs_at_most_50_bytes(
    request_id: int, epoch: int, base: int, node: int, token: int | None, done: bool, cost: m.Verification
) -> None:
    """40 for any response of a chat's length; all figures at their largest take some more."""
    size = len(encode(m.Verdict(request_id, epoch, base, node, token, done, cost)))
    assert size <= 50
    if max(epoch, base, cost.redecide_steps) < 256:
        assert size <= 43


def test_a_streamed_token_costs_at_most_40_bytes() -> None:
    tokens = m.Tokens(65_535, m.MAX_NEW_TOKENS, pack_ids([VOCABULARY - 1]), False, 60_000_000, 60_000_000)
    assert len(encode(tokens)) <= 40


COST = m.Verification(1, 0, 0)
PICTURE = m.Picture(b"")


TOO_MUCH: list[tuple[m.Message, str]] = [
    (m.Request(1, "server-only", 65, 10, "", PICTURE), "gamma"),
    (m.Request(1, "server-only", -1, 10, "", PICTURE), "gamma"),
    (m.Request(1, "server-only", 4, 0, "", PICTURE), "max_new_tokens"),
    (m.Request(1, "server-only", 4, m.MAX_NEW_TOKENS + 1, "", PICTURE), "max_new_tokens"),
    (m.Request(1, "server-only", 4, 10, "x" * (m.MAX_PROMPT_CHARACTERS + 1), PICTURE), "prompt"),
    (m.Request(1, "m" * 33, 4, 10, "", PICTURE), "method"),
    (m.Request(2**32, "server-only", 4, 10, "", PICTURE), "request_id"),
    (m.Request(1, "server-only", 4, 10, "", PICTURE, -1.0), "exact_margin"),
    (m.Request(1, "server-only", 4, 10, "", PICTURE, 0.0, bytes(3 * m.MAX_NEW_TOKENS + 1)), "committed"),
    (m.Draft(1, 0, 1, bytes(3 * 65)), "65 drafts"),
    (m.Draft(1, 0, 1, b"", bytes(65)), "65 parents"),
    (m.Draft(1, -1, 1, b""), "epoch"),
    (m.Draft(1, 0, m.MAX_NEW_TOKENS + 1, b""), "base"),
    (m.Tokens(1, 0, bytes(3 * 66), False, 0, 0), "66 tokens"),
    (m.Tokens(1, 0, b"", False, -1, 0), "negative time"),
    (m.Verdict(1, 0, 0, 65, 1, False, COST), "node"),
    (m.Verdict(1, 0, 0, 1, 2**24, False, COST), "token"),
    (m.Verdict(1, 0, 0, 1, 1, False, m.Verification(1, 0, 2**40)), "twelve days"),
    (m.Verdict(1, 0, 0, 1, 1, False, m.Verification(65, 0, 0)), "judged"),
    (m.Round(1, 0, b"", False, 65, 0, 0, COST), "drafted"),
    (m.Refused("x" * 2001), "reason"),
    (m.Welcome(2, m.Fingerprint("a", "b", 0), SERVED), "empty vocabulary"),
    *(
        (m.Welcome(2, m.Fingerprint("a", "b", 5), msgspec.structs.replace(SERVED, **{field: value})), field)
        for field, value in (
            ("target", "x" * 256),
            ("target_sha256", "0" * 63),
            ("target_sha256", "0" * 64 + "\n"),
            ("draft_sha256", "G" * 64),
            ("dtype", "float64"),
            ("dtype", "float32\n"),
            ("quantize", "int2"),
            ("threads", 0),
            ("cores", 2**16),
            ("aiflow", "x" * 256),
            ("cpu", "\x1b[2J"),
            ("gpu", "two\nlines"),
            ("gpu", "x" * 256),
        )
    ),
]


@pytest.mark.parametrize(("message", "what"), TOO_MUCH, ids=[what for _, what in TOO_MUCH])
def test_fields_out_of_bounds_are_refused_on_receipt(message: m.Message, what: str) -> None:
    with pytest.raises(MalformedMessage, match="no message of this protocol"):
        decode(encode(message))


@pytest.mark.parametrize(
    "body",
    [
        [3, 1, 0, 1],
        [3, 1, 0, 1, b"", None, 9],
        [99, 1, 0, 1, b""],
        ["3", 1, 0, 1, b""],
        [3, 1, "0", 1, b""],
        [3, 1, 0.5, 1, b""],
        [7, 1, 0, 1, 2, 1, 0, [1, 0, 0]],
        [7, 1, 0, 1, 2, 1, False, [1, 0]],
        [2, 1, "server-only", 4, 10, "", b"a picture without its tag"],
        [2, 1, "server-only", 4, 10, "", [2, b"of another tag"]],
        {"round": 0},
        [],
        None,
        3,
    ],
)
def test_what_is_nearly_a_message_is_refused(body: object) -> None:
    packed = msgspec.msgpack.encode(body)
    with pytest.raises(MalformedMessage):
        decode(len(packed).to_bytes(4, "big") + packed)
