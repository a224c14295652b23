"""Frames: a length of four bytes, big-endian, then one message."""

from __future__ import annotations

import msgspec

from aiflow_cli.errors import ProtocolError
from aiflow_cli.wire.messages import MAX_IMAGE_BYTES, MAX_NEW_TOKENS, MAX_PROMPT_CHARACTERS, TOKEN_BYTES, Message

LENGTH_BYTES = 4
MAX_FRAME_BYTES = MAX_IMAGE_BYTES + 4 * MAX_PROMPT_CHARACTERS + TOKEN_BYTES * MAX_NEW_TOKENS + 1000
"""The largest message is a Request: image, prompt, committed ids, and a few numbers."""
SMALL_FRAME_BYTES = 16_384
"""Enough for every message but a Request."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


class FrameTooLarge(ProtocolError):  # noqa: N818
    """A frame announces more bytes than any message of this side may have."""


class MalformedMessage(ProtocolError):  # noqa: N818
    """A frame's bytes are no message of this protocol."""


def encode(message: Message) -> bytes:
    """The frame of a message."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def frame_bytes(begun: bytes | bytearray) -> int:
    """How long the frame is that begins so, by its own account; 0 while not even its length is whole."""
    if len(begun) < LENGTH_BYTES:
        return 0
    return LENGTH_BYTES + int.from_bytes(begun[:LENGTH_BYTES], "big")


def decode(frame: bytes) -> Message:
    """The message of a whole frame; raises MalformedMessage."""
    body = memoryview(frame)[LENGTH_BYTES:]
    try:
        message: Message = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(
            f"the peer sent {len(body)} bytes that are no message of this protocol ({error})"
        ) from None
    return message
