"""The server's end of one connection: bytes in, messages out, and the one piece of work that its session waits for."""

from __future__ import annotations

import contextlib
import socket
from time import perf_counter
from typing import NamedTuple

from aiflow_cli.decoding.actions import Action, DraftTokens, Extend, Finish, PrefillDraft, PrefillTarget, Send
from aiflow_cli.decoding.events import Event, Received
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.errors import ProtocolError
from aiflow_cli.wire.framing import MAX_FRAME_BYTES, SMALL_FRAME_BYTES, FrameReader, encode
from aiflow_cli.wire.messages import PROTOCOL_VERSION, Hello, Message, Refused, Welcome

RECEIVE_BYTES = 262_144
MAX_UNSENT_BYTES = 1_000_000
"""A device that reads nothing for this long is gone."""

Work = PrefillTarget | PrefillDraft | Extend | DraftTokens


class Gone(Exception):  # noqa: N818
    """The peer closed the connection, or it broke."""


class Pending(NamedTuple):
    """Work to be done, and since when it could have been."""

    work: Work
    since_s: float


class Client:
    """One device's connection. It never blocks: what the kernel does not take is kept and sent when it does."""

    def __init__(self, connection: socket.socket, session: ServerSession, greeting: Welcome) -> None:
        """Take over a connected socket. `greeting`: what a device is told, and what it is compared with."""
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.socket = connection
        self.session = session
        self.pending: Pending | None = None
        self.heard_at_s = perf_counter()
        self._greeting = greeting
        self._greeted = False
        self._reader = FrameReader(SMALL_FRAME_BYTES)
        self._unsent = bytearray()

    @property
    def wants_to_write(self) -> bool:
        """Whether something waits for the kernel to take it."""
        return bool(self._unsent)

    def overdue(self, now_s: float, hello_timeout_s: float, message_timeout_s: float) -> bool:
        """Whether a hello or the rest of a message has been due for too long."""
        silent_s = now_s - self.heard_at_s
        return (
            silent_s > hello_timeout_s
            if not self._greeted
            else bool(self._reader.pending) and silent_s > message_timeout_s
        )

    def read(self) -> None:
        """Read what is there and act on whole messages. Raises Gone, ProtocolError."""
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        self.heard_at_s = perf_counter()
        for message, _ in self._reader.feed(data):
            if self._greeted:
                self.tell(Received(message), self.heard_at_s)
            else:
                self._greet(message)

    def _greet(self, message: Message) -> None:
        if not isinstance(message, Hello):
            raise ProtocolError(f"the device began with {type(message).__name__}: a hello is due")
        if reason := self._mismatch(message):
            raise ProtocolError(reason)
        self._greeted = True
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
        """Say why this connection ends, if the device still listens; then close it."""
        with contextlib.suppress(Gone):
            self.send(Refused(reason[:2000]))
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
