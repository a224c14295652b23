"""What crosses the link: typed messages, each a short MessagePack array; token ids are packed three bytes each.

Only the device's first message of a response is large (it carries the image). Durations are whole microseconds measured by the server's own
clock, so that nothing needs synchronised clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

PROTOCOL_VERSION = 2
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
    """What must agree between draft and target for token ids to mean the same; `architecture` is for people, it may differ."""

    architecture: Annotated[str, Meta(max_length=200)]
    tokenizer_sha256: Annotated[str, Meta(max_length=64)]
    vocab_size: Annotated[int, Meta(ge=1, lt=2**24)]


class Served(msgspec.Struct, frozen=True, array_like=True):
    """What a server runs, as a result records it: its target (and draft, for co-located) with the hashes of their files, how it computes,
    its program with the hash of its sources, and its machine.
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
    """Device to server, first: protocol version, and the draft's fingerprint (the target's own where there is no draft)."""

    protocol: int
    fingerprint: Fingerprint | None


class Request(_Message, frozen=True, tag=2):
    """Device to server: caption this image. `gamma` is used where the server drafts (co-located), and bounds the device's drafts.

    `exact_margin`: verifications decide positions with a smaller margin again, by single steps (0: none; `decoding/exact.py`).
    """

    request_id: _RequestId
    method: Annotated[str, Meta(max_length=32)]
    gamma: Annotated[int, Meta(ge=0, le=MAX_GAMMA)]
    max_new_tokens: Annotated[int, Meta(ge=1, le=MAX_NEW_TOKENS)]
    prompt: Annotated[str, Meta(max_length=MAX_PROMPT_CHARACTERS)]
    image: Annotated[bytes, Meta(max_length=MAX_IMAGE_BYTES)]
    exact_margin: Annotated[float, Meta(ge=0, le=1000)] = 0.0


class Draft(_Message, frozen=True, tag=3):
    """Device to server: drafted ids (packed) after `base` committed tokens; `round` counts from 0."""

    round: _Count
    base: _Count
    ids: _DraftIds


class Cancel(_Message, frozen=True, tag=4):
    """Device to server: drop this request."""

    request_id: _RequestId


class Welcome(_Message, frozen=True, tag=5):
    """Server to device, first: protocol version, the target's fingerprint, and what the server runs."""

    protocol: int
    fingerprint: Fingerprint
    served: Served


class Tokens(_Message, frozen=True, tag=6):
    """Server to device: output ids (packed). Durations: from the last byte read to the start of the work, and the work itself.

    `drafted` and the rest are of a co-located round, else 0. The first `Tokens` of a response has the prefill as its work, and
    co-located the draft model's prefill, which follows the target's, as its `draft_us`.
    `redecide_steps` single steps that decided a position again took `redecide_us` of `compute_us`. `judged` as in `Verdict`.
    """

    ids: Annotated[bytes, Meta(max_length=(MAX_GAMMA + 1) * TOKEN_BYTES)]
    done: bool
    queue_us: _Microseconds
    compute_us: _Microseconds
    drafted: _Count = 0
    accepted: _Count = 0
    draft_us: _Microseconds = 0
    redecide_steps: _Count = 0
    redecide_us: _Microseconds = 0
    judged: _Count = 0


class Verdict(_Message, frozen=True, tag=7):
    """Server to device: how many drafts of `round` are accepted, and the target's next id (None after an accepted end).

    `redecide_steps` single steps that decided a position again took `redecide_us` of `verify_us`. `judged` drafts were accepted or rejected:
    those behind the first rejection were not, nor those that were dropped because a position before them was undecided.
    """

    round: _Count
    accepted: Annotated[int, Meta(ge=0, le=MAX_GAMMA)]
    token: _Id | None
    done: bool
    queue_us: _Microseconds
    verify_us: _Microseconds
    redecide_steps: _Count = 0
    redecide_us: _Microseconds = 0
    judged: _Count = 0


class Refused(_Message, frozen=True, tag=8):
    """Server to device: the connection or the request is not taken, and why; the connection closes."""

    reason: _Reason


Message = Hello | Request | Draft | Cancel | Welcome | Tokens | Verdict | Refused


def pack_ids(ids: Sequence[int]) -> bytes:
    """Three bytes an id, big-endian; raises OverflowError for an id of 2^24 or more."""
    return b"".join(index.to_bytes(TOKEN_BYTES, "big") for index in ids)


def unpack_ids(packed: bytes) -> tuple[int, ...]:
    """The ids of `packed`; raises ValueError unless its length is a multiple of three."""
    if len(packed) % TOKEN_BYTES:
        raise ValueError(f"{len(packed)} bytes are no whole number of {TOKEN_BYTES}-byte ids")
    return tuple(int.from_bytes(packed[i : i + TOKEN_BYTES], "big") for i in range(0, len(packed), TOKEN_BYTES))
