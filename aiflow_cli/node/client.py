"""The server's end of one connection: messages go to its session; what that asks for is sent, or waits to be done."""

from __future__ import annotations

import contextlib
import math
import socket
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

from aiflow_cli.decoding.actions import DraftTokens, Extend, Prefill, Send, Work
from aiflow_cli.decoding.events import Event, Received
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.errors import ProtocolError
from aiflow_cli.node.perform import Models
from aiflow_cli.node.stream import PeerGone, Stream
from aiflow_cli.wire.framing import MAX_FRAME_BYTES
from aiflow_cli.wire.messages import PROTOCOL_VERSION, Fingerprint, Hello, Message, Refused, Request, Welcome

LINGER_S = 5.0
"""Some round trips of the longest link; a device in its own prefill then has the reason in its kernel, unread."""
LINGER_BYTES = MAX_FRAME_BYTES
"""The rest of one message, of whatever size."""
MAX_UNSENT_BYTES = 1_000_000
"""A device that leaves more than this unread, beyond what the kernel holds, is gone: it is more than any response."""
UNREAD_S = 120.0
"""A device whose machine has taken nothing of what it was sent for this long is gone."""


class Job(NamedTuple):
    """Work that waits to be done for a device, and since when it could have been."""

    client: Client
    work: Work
    since_s: float


@dataclass(frozen=True)
class Timeouts:
    """How long a device is waited for. Whole messages count, not bytes: one that dribbles is not kept for that."""

    hello_s: float = 10.0
    """From the connection to the whole hello."""
    message_s: float = 30.0
    """From the first byte of a message to its last, beside what its size allows (`wire/transport.py`)."""
    draft_s: float = 600.0
    """A device that owes a draft occupies a cache: it is waited for as long as a device waits for a server."""
    idle_s: float = 6 * 3600.0
    """A device between requests occupies a place and no cache; a sweep may come back to a link after hours."""


class Client(Stream):
    """One device's connection. It never blocks: what the kernel does not take is kept and sent when it does."""

    def __init__(self, connection: socket.socket, session: ServerSession, greeting: Welcome) -> None:
        """Take over a connected socket. `greeting`: what a device is told, and what it is compared with."""
        super().__init__(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(UNREAD_S * 1e3))
        self.session = session
        self.seat: Models | None = None
        """The caches that it has while it is being served."""
        self.jobs: list[Job] = []
        """What the session waits for."""
        self._active_s = self.transport.heard_at_s
        self._request_bytes = 0
        self._greeting = greeting
        self._greeted = False
        self.closes_at_s = math.inf
        """When it is closed even if the device still sends: once it was refused."""
        self._left_bytes = LINGER_BYTES

    @property
    def held_bytes(self) -> int:
        """What is kept for this device beside its cache: an unfinished message, the picture of its request."""
        return self.transport.pending + (self._request_bytes if self.session.busy else 0)

    def overdue(self, now_s: float, timeouts: Timeouts) -> str | None:
        """What has been due from this device for too long; None if nothing has."""
        silent_s = now_s - self._active_s
        if not self._greeted:
            return "no hello came in time" if silent_s > timeouts.hello_s else None
        if self.transport.pending:
            late = self.transport.is_late(now_s, timeouts.message_s)
            return "the rest of a message did not come in time" if late else None
        if not self.jobs and silent_s > (timeouts.draft_s if self.session.busy else timeouts.idle_s):
            return f"nothing came from this device for {silent_s:.0f} s"
        return None

    def read(self) -> None:
        """Read what is there and act on whole messages. Raises PeerGone, ProtocolError."""
        super().read()
        while (arrived := self.transport.next()) is not None:
            if isinstance(arrived.message, Request):
                self._request_bytes = arrived.n_bytes
            if self._greeted:
                self.tell(Received(arrived.message), arrived.at_s)
            else:
                self._greet(arrived.message, arrived.at_s)

    def _greet(self, message: Message, at_s: float) -> None:
        if not isinstance(message, Hello):
            raise ProtocolError(f"the device began with {type(message).__name__}: a hello is due")
        _check_pair(message, self._greeting.fingerprint)
        self._greeted, self._active_s = True, at_s
        self.transport.max_frame_bytes = MAX_FRAME_BYTES
        self.send(self._greeting)

    def tell(self, event: Event, ready_at_s: float) -> None:
        """Hand an event to the session, and do what it asks: work becomes `jobs`. Raises ProtocolError, PeerGone."""
        self._active_s = ready_at_s
        for action in self.session.handle(event):
            match action:
                case Send(message):
                    self.send(message)
                case Prefill() | Extend() | DraftTokens():
                    self.jobs.append(Job(self, action, ready_at_s))
        if not self.session.busy:
            self.jobs.clear()  # of a request that was cancelled: no one waits for it

    def send(self, message: Message) -> None:
        """Send a message, or as much of it as the kernel takes. Raises PeerGone."""
        self.transport.send(message)
        self.flush()

    def flush(self) -> None:
        """Send what is kept. Raises PeerGone if the device reads nothing, or the connection broke."""
        while self.transport.unsent and self.write():
            pass
        if self.transport.unsent > MAX_UNSENT_BYTES:
            raise PeerGone(f"it leaves {self.transport.unsent:,} bytes unread")

    def refuse(self, reason: str) -> None:
        """Say why this connection ends, if the device still listens, and that no more comes; then call `discard`.

        A socket that is closed while bytes wait in it unread is reset, and a reset may overtake the reason or throw it
        away, on the way or at the peer, which then knows of a broken pipe only. So the reason goes out with the end of
        our stream, and what the peer still sends (the rest of an upload, say) is read and thrown away until it ends its
        own, within bounds.
        """
        with contextlib.suppress(PeerGone):
            self.send(Refused(reason[:2000].encode(errors="replace").decode()))
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        self.closes_at_s = perf_counter() + LINGER_S

    def discard(self) -> bool:
        """Throw away what has come; whether the peer is gone, or has sent more than it may."""
        try:
            self._left_bytes -= len(self.take())
        except PeerGone:
            return True
        return self._left_bytes < 0


def _check_pair(hello: Hello, ours: Fingerprint) -> None:
    """Raise ProtocolError if this draft and the target cannot work together."""
    theirs, no_pair = hello.fingerprint or ours, "they are no pair, give both sides the same --pair"
    if hello.protocol != PROTOCOL_VERSION:
        spoken = f"the device speaks protocol {hello.protocol}, this server {PROTOCOL_VERSION}"
        raise ProtocolError(f"{spoken}: install the same aiflow on both")
    if theirs.vocab_size != ours.vocab_size:
        raise ProtocolError(f"the draft has {theirs.vocab_size} tokens, the target {ours.vocab_size}: {no_pair}")
    if theirs.tokenizer_sha256 != ours.tokenizer_sha256:
        raise ProtocolError(f"draft and target have different tokenizers: {no_pair}")
