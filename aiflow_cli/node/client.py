"""The server's end of one connection: bytes in, messages out, and the one piece of work that its session waits for."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

from aiflow_cli.decoding.actions import Action, DraftTokens, Extend, Finish, PrefillDraft, PrefillTarget, Send
from aiflow_cli.decoding.events import Event, Received
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.errors import ProtocolError
from aiflow_cli.link.address import tune
from aiflow_cli.wire.framing import MAX_FRAME_BYTES, SMALL_FRAME_BYTES, FrameReader, encode
from aiflow_cli.wire.messages import PROTOCOL_VERSION, Hello, Message, Refused, Request, Welcome

RECEIVE_BYTES = 262_144
SMALL_RECEIVE_BYTES = 4096
"""Read at once of a device that announces no more: a flood of small messages takes turns with the work for others."""
MAX_UNSENT_BYTES = 1_000_000
"""A device that leaves more than this unread, beyond what the kernel holds, is gone: it is more than any response."""
UNREAD_S = 120.0
"""A device whose machine has taken nothing of what it was sent for this long is gone."""
MIN_BYTES_PER_S = 1000
"""How fast a message has to come on average, after the first half minute: a five hundredth of the paper's slowest link."""
LONGEST_MESSAGE_S = 3600.0
"""The largest picture (32 MB) comes in time from 9 KB/s on."""

Work = PrefillTarget | PrefillDraft | Extend | DraftTokens


class Gone(Exception):  # noqa: N818
    """The peer closed the connection, or it broke."""


class Pending(NamedTuple):
    """Work to be done, and since when it could have been."""

    work: Work
    since_s: float


@dataclass(frozen=True)
class Timeouts:
    """How long a device is waited for. Whole messages count, not bytes: one that dribbles is not kept for that."""

    hello_s: float = 10.0
    """From the connection to the whole hello."""
    message_s: float = 30.0
    """From the first byte of a message to its last, beside what its bytes take at MIN_BYTES_PER_S."""
    draft_s: float = 600.0
    """A device that owes a draft occupies a cache: it is waited for as long as a device waits for a server."""
    idle_s: float = 6 * 3600.0
    """A device between requests occupies a place and no cache; a sweep may come back to a link after hours of other trials."""

    def whole_message_s(self, n_bytes: int) -> float:
        """How long a message of so many bytes may take: 2.5 minutes for a picture of 120 KB, at most an hour for any."""
        return min(LONGEST_MESSAGE_S, self.message_s + n_bytes / MIN_BYTES_PER_S)


class Client:
    """One device's connection. It never blocks: what the kernel does not take is kept and sent when it does."""

    def __init__(self, connection: socket.socket, session: ServerSession, greeting: Welcome) -> None:
        """Take over a connected socket. `greeting`: what a device is told, and what it is compared with."""
        connection.setblocking(False)
        tune(connection)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(UNREAD_S * 1e3))
        self.socket = connection
        self.session = session
        self.pending: Pending | None = None
        self.heard_at_s = perf_counter()
        self._active_s = self._begun_s = self.heard_at_s
        self._request_bytes = 0
        self._greeting = greeting
        self._greeted = False
        self._reader = FrameReader(SMALL_FRAME_BYTES)
        self._unsent = bytearray()

    @property
    def wants_to_write(self) -> bool:
        """Whether something waits for the kernel to take it."""
        return bool(self._unsent)

    @property
    def uploading(self) -> bool:
        """Whether a large message is under way."""
        return self._reader.pending > SMALL_FRAME_BYTES

    @property
    def held_bytes(self) -> int:
        """What this device has the server keep for it, beside its cache: an unfinished message, the picture of its request."""
        return self._reader.pending + (self._request_bytes if self.session.busy else 0)

    def overdue(self, now_s: float, timeouts: Timeouts) -> str | None:
        """What has been due from this device for too long; None if nothing has."""
        silent_s = now_s - self._active_s
        if not self._greeted:
            return "no hello came in time" if silent_s > timeouts.hello_s else None
        if self._reader.pending:
            allowed_s = timeouts.whole_message_s(self._reader.announced)
            return "the rest of a message did not come in time" if now_s - self._begun_s > allowed_s else None
        if self.pending is None and silent_s > (timeouts.draft_s if self.session.busy else timeouts.idle_s):
            return f"nothing came from this device for {silent_s:.0f} s"
        return None

    def read(self) -> None:
        """Read what is there and act on whole messages. Raises Gone, ProtocolError."""
        expected_bytes = self._reader.announced - self._reader.pending
        try:
            data = self.socket.recv(min(RECEIVE_BYTES, max(SMALL_RECEIVE_BYTES, expected_bytes)))
        except BlockingIOError:
            return
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        self.heard_at_s = perf_counter()
        began_before = self._reader.pending > 0
        messages = self._reader.feed(data)
        if messages or not began_before:
            self._begun_s = self.heard_at_s
        for message, size in messages:
            if isinstance(message, Request):
                self._request_bytes = size
            if self._greeted:
                self.tell(Received(message), self.heard_at_s)
            else:
                self._greet(message)

    def _greet(self, message: Message) -> None:
        if not isinstance(message, Hello):
            raise ProtocolError(f"the device began with {type(message).__name__}: a hello is due")
        if reason := self._mismatch(message):
            raise ProtocolError(reason)
        self._greeted, self._active_s = True, self.heard_at_s
        self._reader.max_frame_bytes = MAX_FRAME_BYTES
        self.send(self._greeting)

    def _mismatch(self, hello: Hello) -> str | None:
        ours, theirs = self._greeting.fingerprint, hello.fingerprint
        if hello.protocol != PROTOCOL_VERSION:
            return f"the device speaks protocol {hello.protocol}, this server {PROTOCOL_VERSION}: install the same aiflow on both"
        if theirs is None:
            return None
        if theirs.vocab_size != ours.vocab_size:
            return f"the draft has {theirs.vocab_size} tokens, the target {ours.vocab_size}: they are no pair, give both sides the same --pair"
        if theirs.tokenizer_sha256 != ours.tokenizer_sha256:
            return "draft and target have different tokenizers: they are no pair, give both sides the same --pair"
        return None

    def tell(self, event: Event, ready_at_s: float) -> None:
        """Hand an event to the session and do what it asks; work is kept as `pending`. Raises ProtocolError, Gone."""
        self._active_s = ready_at_s
        for action in self.session.handle(event):
            self._act(action, ready_at_s)
        if self.pending is not None and not self.session.busy:
            self.pending = None  # cancelled

    def _act(self, action: Action, ready_at_s: float) -> None:
        match action:
            case Send(message):
                self.send(message)
            case PrefillTarget() | PrefillDraft() | Extend() | DraftTokens():
                self.pending = Pending(action, ready_at_s)
            case Finish():
                pass
            case _:
                raise TypeError(f"a server cannot {action}")

    def send(self, message: Message) -> None:
        """Send a message, or as much of it as the kernel takes. Raises Gone."""
        self._unsent += encode(message)
        self.flush()

    def flush(self) -> None:
        """Send what is kept. Raises Gone if the device reads nothing, or the connection broke."""
        try:
            while self._unsent:
                del self._unsent[: self.socket.send(self._unsent)]
        except BlockingIOError:
            if len(self._unsent) > MAX_UNSENT_BYTES:
                raise Gone from None
        except OSError as error:
            raise Gone from error

    def refuse(self, reason: str) -> None:
        """Say why this connection ends, if the device still listens, and that no more is to come; see `node/farewell.py`."""
        with contextlib.suppress(Gone):
            self.send(Refused(reason[:2000].encode(errors="replace").decode()))
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
