"""Frames: a length of four bytes, big-endian, then one message. The length is checked before anything is stored."""

from __future__ import annotations

import msgspec

from aiflow_cli.errors import ProtocolError
from aiflow_cli.wire.messages import MAX_IMAGE_BYTES, MAX_PROMPT_CHARACTERS, Message

LENGTH_BYTES = 4
MAX_FRAME_BYTES = MAX_IMAGE_BYTES + 4 * MAX_PROMPT_CHARACTERS + 1000
"""The largest message is a Request: image, prompt, and a few numbers."""
SMALL_FRAME_BYTES = 16_384
"""Enough for every message but a Request."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


class FrameTooLarge(ProtocolError):  # noqa: N818
    """A frame announces more bytes than any message of this side may have."""


class MalformedMessage(ProtocolError):  # noqa: N818
    """A frame's bytes are no message of this protocol."""


def encode(message: Message) -> bytes:
    """The frame of a message; send it in one call."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class FrameReader:
    """Collects bytes into messages. `max_frame_bytes` bounds what a peer can make this side store."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of an unfinished frame held."""
        return len(self._buffer)

    @property
    def announced(self) -> int:
        """Bytes that the unfinished frame will have by its own account; 0 while not even its length is whole."""
        return LENGTH_BYTES + self._length() if len(self._buffer) >= LENGTH_BYTES else 0

    def feed(self, data: bytes) -> list[tuple[Message, int]]:
        """Messages that `data` completes, each with its frame's size in bytes. Raises FrameTooLarge or MalformedMessage."""
        self._buffer += data
        messages: list[tuple[Message, int]] = []
        while (size := self._complete_frame()) is not None:
            body = bytes(memoryview(self._buffer)[LENGTH_BYTES:size])
            del self._buffer[:size]
            messages.append((_decode(body), size))
        return messages

    def _complete_frame(self) -> int | None:
        if len(self._buffer) < LENGTH_BYTES:
            return None
        length = self._length()
        if length > self.max_frame_bytes:
            raise FrameTooLarge(
                f"the peer announces a message of {length:,} bytes, over the limit of {self.max_frame_bytes:,}: it is no aiflow peer"
            )
        size = LENGTH_BYTES + length
        return size if len(self._buffer) >= size else None

    def _length(self) -> int:
        return int.from_bytes(self._buffer[:LENGTH_BYTES], "big")


def _decode(body: bytes) -> Message:
    try:
        message: Message = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(
            f"the peer sent {len(body)} bytes that are no message of this protocol ({error})"
        ) from None
    return message
