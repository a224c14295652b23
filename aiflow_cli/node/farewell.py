"""How a connection ends that was refused: the peer reads why before it is closed.

A socket that is closed while bytes wait in it unread is reset, and a reset may overtake the reason or throw it away, on
the way or at the peer, which then knows of a broken pipe only. So the reason goes out with the end of our stream, and
what the peer still sends (the rest of an upload, say) is read and thrown away until it ends its own, within bounds.
"""

from __future__ import annotations

import socket

from aiflow_cli.node.stream import MOST_READ_BYTES, PeerGone, read_from
from aiflow_cli.wire.framing import MAX_FRAME_BYTES

LINGER_S = 5.0
"""Some round trips of the longest link; a device in its own prefill then has the reason in its kernel, unread."""
LINGER_BYTES = MAX_FRAME_BYTES
"""The rest of one message, of whatever size."""


class Farewell:
    """A refused peer's socket, whose writing side is shut. It is over when `discard` says so, or after `until_s`."""

    def __init__(self, connection: socket.socket, now_s: float) -> None:
        self.socket = connection
        self.until_s = now_s + LINGER_S
        self._left_bytes = LINGER_BYTES

    def discard(self) -> bool:
        """Throw away what has come; whether the peer is gone, or has sent more than it may."""
        try:
            self._left_bytes -= len(read_from(self.socket, MOST_READ_BYTES))
        except PeerGone:
            return True
        return self._left_bytes < 0
