"""What crosses the link: typed messages, each a short MessagePack array; token ids are packed three bytes each.

Only the device's first message of a response is large (it carries the image). Durations are whole microseconds measured
by the server's own clock, so that nothing needs synchronised clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

PROTOCOL_VERSION = 3
MAX_IMAGE_BYTES = 32_000_000
MAX_PROMPT_CHARACTERS = 16_384
MAX_GAMMA = 64
MAX_NEW_TOKENS = 8192
MAX_NAME_CHARACTERS = 255
TOKEN_BYTES = 3
"""Ids below 2^24: vocabularies of today have some 10^5."""

_Id = Annotated[int, Meta(ge=0, lt=2**24)]
_Count = Annotated[int, Meta(ge=0, le=MAX_NEW_TOKENS)]
_Microseconds = Annotated[int, Meta(ge=0, lt=2**40)]
_Reason = Annotated[str, Meta(max_length=2000)]
_RequestId = Annotated[int, Meta(ge=0, lt=2**32)]
_PRINTED = r"\A[^\x00-\x1f\x7f-\x9f]*\Z"
"""Names of a stranger are shown on terminals: without characters that steer one."""
_Name = Annotated[str, Meta(max_length=MAX_NAME_CHARACTERS, pattern=_PRINTED)]
_Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_DraftIds = Annotated[bytes, Meta(max_length=MAX_GAMMA * TOKEN_BYTES)]


class Fingerprint(msgspec.Struct, frozen=True, array_like=True):
    """What must agree between draft and target for token ids to mean the same; `architecture` is for people, it may
    differ.
    """

    architecture: Annotated[str, Meta(max_length=200)]
    tokenizer_sha256: Annotated[str, Meta(max_length=64)]
    vocab_size: Annotated[int, Meta(ge=1, lt=2**24)]


class Served(msgspec.Struct, frozen=True, array_like=True):
    """What a server runs, as a result records it: its target (and draft, for co-located) with the hashes of their
    files, how it computes, its program with the hash of its sources, and its machine.
    """

    target: _Name
    target_sha256: _Sha256
    draft: _Name | None
    draft_sha256: _Sha256 | None
    device: _Name
    dtype: Annotated[str, Meta(pattern=r"\A(float32|bfloat16|float16)\Z")]
    quantize: Annotated[str, Meta(pattern=r"\A(int8|int4)\Z")] | None
    threads: Annotated[int, Meta(ge=1, lt=2**16)]
    aiflow: _Name
    code_sha256: _Sha256
    cpu: _Name
    cores: Annotated[int, Meta(ge=1, lt=2**16)]
    gpu: _Name | None


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of all messages."""


class Hello(_Message, frozen=True, tag=1):
    """Device to server, first: protocol version, and the draft's fingerprint (the target's own where there is no
    draft).
    """

    protocol: int
    fingerprint: Fingerprint | None


class Picture(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """An input: the encoded picture, as it lies on the device."""

    data: Annotated[bytes, Meta(max_length=MAX_IMAGE_BYTES)]


Input = Picture
"""What a device sends of an image. Each kind has a tag, so that another can join."""


class Request(_Message, frozen=True, tag=2):
    """Device to server: caption this image. Ids of requests count upward on a connection.

    `gamma` is used where the server drafts (co-located), and bounds the device's drafts. `exact_margin`: verifications
    decide positions with a smaller margin again, by single steps (0: none; `decoding/exact.py`). `committed`: ids
    (packed) of a response that goes on here: the device has them already.
    """

    request_id: _RequestId
    method: Annotated[str, Meta(max_length=32)]
    gamma: Annotated[int, Meta(ge=0, le=MAX_GAMMA)]
    max_new_tokens: Annotated[int, Meta(ge=1, le=MAX_NEW_TOKENS)]
    prompt: Annotated[str, Meta(max_length=MAX_PROMPT_CHARACTERS)]
    input: Input
    exact_margin: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    committed: Annotated[bytes, Meta(max_length=MAX_NEW_TOKENS * TOKEN_BYTES)] = b""


class Draft(_Message, frozen=True, tag=3):
    """Device to server: drafted ids (packed) that follow `base` output tokens.

    `epoch` counts how often the output has left what the device had drafted: a draft of an epoch that has passed is
    dropped unread. Of a draft that begins before the end of the output, what is output already is passed over; if that
    is all of it, there is no verdict. `parents`: for each id the number of its parent, a byte each; 0 is the last of
    the `base` tokens, n the n-th id. None: a chain.
    """

    request_id: _RequestId
    epoch: _Count
    base: _Count
    ids: _DraftIds
    parents: Annotated[bytes, Meta(max_length=MAX_GAMMA)] | None = None


class Cancel(_Message, frozen=True, tag=4):
    """Device to server: drop this request; nothing more of it is read."""

    request_id: _RequestId


class Welcome(_Message, frozen=True, tag=5):
    """Server to device, first: protocol version, the target's fingerprint, and what the server runs."""

    protocol: int
    fingerprint: Fingerprint
    served: Served


class Verification(msgspec.Struct, frozen=True, array_like=True):
    """What a verification did: `judged` drafts were accepted or rejected (those behind a rejection, or behind an
    undecided position, were not), it waited and took so long, and of that `redecide_us` went into single steps that
    decided a position again.
    """

    judged: Annotated[int, Meta(ge=0, le=MAX_GAMMA)]
    queue_us: _Microseconds
    verify_us: _Microseconds
    redecide_steps: _Count = 0
    redecide_us: _Microseconds = 0


class Tokens(_Message, frozen=True, tag=6):
    """Server to device: output ids (packed) after `base` others, from one piece of work: it waited and took so long.

    The first `Tokens` of a response has the prefill as its work, and co-located the draft model's prefill, which
    follows the target's, as its `draft_us`.
    """

    request_id: _RequestId
    base: _Count
    ids: Annotated[bytes, Meta(max_length=(MAX_GAMMA + 1) * TOKEN_BYTES)]
    done: bool
    queue_us: _Microseconds
    compute_us: _Microseconds
    draft_us: _Microseconds = 0


class Verdict(_Message, frozen=True, tag=7):
    """Server to device, for the draft of that epoch and base: the last node that is accepted (0: none; n: the n-th id,
    and its parents), and the target's next id (None after an accepted end).
    """

    request_id: _RequestId
    epoch: _Count
    base: _Count
    node: Annotated[int, Meta(ge=0, le=MAX_GAMMA)]
    token: _Id | None
    done: bool
    verification: Verification


class Round(_Message, frozen=True, tag=9):
    """Server to device: a round that the server made with its own draft model, and its output ids (packed) after `base`
    others.
    """

    request_id: _RequestId
    base: _Count
    ids: Annotated[bytes, Meta(max_length=(MAX_GAMMA + 1) * TOKEN_BYTES)]
    done: bool
    drafted: Annotated[int, Meta(ge=0, le=MAX_GAMMA)]
    accepted: Annotated[int, Meta(ge=0, le=MAX_GAMMA)]
    draft_us: _Microseconds
    verification: Verification


class Refused(_Message, frozen=True, tag=8):
    """Server to device: the connection or the request is not taken, and why; the connection closes."""

    reason: _Reason


Answer = Tokens | Verdict | Round
"""What belongs to one request of the device that it reaches."""
Message = Hello | Request | Draft | Cancel | Welcome | Answer | Refused


def pack_ids(ids: Sequence[int]) -> bytes:
    """Three bytes an id, big-endian; raises OverflowError for an id of 2^24 or more."""
    return b"".join(index.to_bytes(TOKEN_BYTES, "big") for index in ids)


def unpack_ids(packed: bytes) -> tuple[int, ...]:
    """The ids of `packed`; raises ValueError unless its length is a multiple of three."""
    if len(packed) % TOKEN_BYTES:
        raise ValueError(f"{len(packed)} bytes are no whole number of {TOKEN_BYTES}-byte ids")
    return tuple(int.from_bytes(packed[i : i + TOKEN_BYTES], "big") for i in range(0, len(packed), TOKEN_BYTES))
