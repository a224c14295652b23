"""One end of a connection without its socket and its clock: bytes in and messages out, and the other way round.

Both sides use it, and whatever has to come between messages and sockets (encryption, say) has its place here. Times are
handed in, in seconds of any clock that never goes back.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from aiflow_cli.wire.framing import LENGTH_BYTES, FrameTooLarge, decode, encode, frame_bytes
from aiflow_cli.wire.messages import Message

MIN_BYTES_PER_S = 1000
"""How fast a message has to come on average, beside a grace: a five hundredth of the paper's slowest link."""
LONGEST_MESSAGE_S = 3600.0
"""No message may take longer, however large it is: the largest picture (32 MB) comes in time from 9 KB/s on."""


class Arrived(NamedTuple):
    """A message, its frame's size, and when the bytes were read that completed it."""

    message: Message
    n_bytes: int
    at_s: float


class Transport:
    """Bytes that are read go in by `receive`, whole messages come out by `next`; messages to the peer go in by `send`,
    their bytes come out by `to_send`. `max_frame_bytes` bounds what a peer can make this side store.
    """

    def __init__(self, max_frame_bytes: int, now_s: float) -> None:
        self.max_frame_bytes = max_frame_bytes
        self.heard_at_s = now_s
        """When bytes came last."""
        self._begun_s = now_s
        self._read = bytearray()
        self._unsent: deque[bytes] = deque()
        self._sent = 0
        """So much of the first unsent frame is out already."""

    @property
    def pending(self) -> int:
        """Bytes of an unfinished message held."""
        return len(self._read)

    @property
    def missing(self) -> int:
        """Bytes that the unfinished message still lacks, as far as is known."""
        return max(0, frame_bytes(self._read) - len(self._read))

    @property
    def unsent(self) -> int:
        """Bytes that are to be sent."""
        return sum(map(len, self._unsent)) - self._sent

    def receive(self, data: bytes, now_s: float) -> None:
        """Take what was read. Take every message that is whole (`next`) before more is read."""
        if not self._read:
            self._begun_s = now_s
        self.heard_at_s = now_s
        self._read += data

    def next(self) -> Arrived | None:
        """The next message, if it is whole. Raises FrameTooLarge as soon as a length is known, or MalformedMessage."""
        size = frame_bytes(self._read)
        if size - LENGTH_BYTES > self.max_frame_bytes:
            raise FrameTooLarge(
                f"the peer announces a message of {size - LENGTH_BYTES:,} bytes, over the limit of "
                f"{self.max_frame_bytes:,}: it is no aiflow peer"
            )
        if not size or len(self._read) < size:
            return None
        frame = bytes(memoryview(self._read)[:size])
        del self._read[:size]
        self._begun_s = self.heard_at_s
        return Arrived(decode(frame), size, self.heard_at_s)

    def is_late(self, now_s: float, grace_s: float) -> bool:
        """Whether the unfinished message, if there is one, takes longer than `allowed_s` from its first byte on."""
        return bool(self._read) and now_s - self._begun_s > allowed_s(frame_bytes(self._read), grace_s)

    def send(self, message: Message) -> int:
        """Put a message behind what is to be sent; its frame's size."""
        frame = encode(message)
        self._unsent.append(frame)
        return len(frame)

    def to_send(self) -> memoryview:
        """What is to be sent next; nothing if all is sent. Tell of what was sent by `sent`."""
        return memoryview(self._unsent[0])[self._sent :] if self._unsent else memoryview(b"")

    def sent(self, n_bytes: int) -> None:
        """So many bytes of `to_send` are out."""
        self._sent += n_bytes
        if self._unsent and self._sent == len(self._unsent[0]):
            self._sent = 0
            self._unsent.popleft()


def allowed_s(n_bytes: int, grace_s: float) -> float:
    """How long a message of so many bytes may take: with a grace of half a minute, 2.5 minutes for 120 KB."""
    return min(LONGEST_MESSAGE_S, grace_s + n_bytes / MIN_BYTES_PER_S)
