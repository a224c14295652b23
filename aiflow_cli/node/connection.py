"""The device's end of a connection: a send a message, answers that are waited for, and a look at what has come.

While it waits for an answer the device sleeps until the socket has something, so that its core is free and the answer
wakes it at once.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading
from collections.abc import Iterator
from time import perf_counter

from aiflow_cli import environment
from aiflow_cli.errors import LinkError, ProtocolError
from aiflow_cli.link.address import Address
from aiflow_cli.node.stream import PeerGone, Stream, reason
from aiflow_cli.wire.messages import PROTOCOL_VERSION, Fingerprint, Hello, Message, Refused, Welcome
from aiflow_cli.wire.transport import Arrived

CONNECT_TIMEOUT_S = 10.0
HELLO_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 600.0
"""How long an answer may take: a large target prefills for minutes on a CPU, but nothing waits for ever."""
LAST_WORDS_S = 2.0
"""How long the server's reason is waited for when a message could not be sent."""
LONGEST_SLEEP_S = 86_400.0
"""The system's call counts milliseconds in 32 bits; whoever waits longer sleeps again."""


class Connection(Stream, contextlib.AbstractContextManager["Connection"]):
    """A connected device. Raises LinkError for whatever happens to the link, ProtocolError for what is no message."""

    def __init__(self, address: Address, server: Address | None = None) -> None:
        """Connect to `address`. `server` is what messages name: where the server is, if a relay is before it."""
        self.server = server or address
        self._answer_timeout_s = environment.ANSWER_TIMEOUT.value() or ANSWER_TIMEOUT_S
        try:
            super().__init__(socket.create_connection(address, CONNECT_TIMEOUT_S))
        except OSError as error:
            raise PeerGone(f"no server at {self.server} ({reason(error)}): start one with `aiflow serve`") from error
        self._readable = _poller(self.socket, select.POLLIN)
        self._broken: PeerGone | None = None
        """Why a message could not be sent. The server may have said more before it left: that is read first."""
        self._sending = threading.Lock()
        self._uploading = False
        """Whether a thread sends what the kernel did not take at once; it sends what comes behind that, too."""
        self.sent_at_s = 0.0
        """When the last message was handed to the kernel. Read before the call: the peer may answer before it ends."""

    def greet(self, fingerprint: Fingerprint | None) -> Welcome:
        """Say hello. Raises LinkError with the server's reason if it refuses this device, or if it is none of ours."""
        self.send(Hello(PROTOCOL_VERSION, fingerprint))
        try:
            message = self.receive(HELLO_TIMEOUT_S).message
        except (ProtocolError, LinkError) as error:
            kind = PeerGone if isinstance(error, PeerGone) else LinkError
            raise kind(f"{error}: is {self.server} where an `aiflow serve` listens?") from error
        match message:
            case Welcome() as welcome:
                return welcome
            case Refused(reason=why):
                raise LinkError(f"the server at {self.server} refuses this device: {why}")
            case _:
                raise LinkError(f"the server at {self.server} answers a hello with {type(message).__name__}")

    def send(self, message: Message) -> int:
        """Hand a message to the kernel, in one call; its bytes. Returns at once: what the kernel does not take (a large
        image over a slow link) a thread sends, so that the draft model is prefilled meanwhile.
        """
        with self._sending:
            size = self.transport.send(message)
            self.sent_at_s = perf_counter()
            if not self._uploading and self._write():
                threading.Thread(target=self._upload, name="upload", daemon=True).start()
        return size

    def _upload(self) -> None:
        writable = _poller(self.socket, select.POLLOUT)
        while self._uploading:
            writable.poll()
            with self._sending:
                self._write()

    def _write(self) -> bool:
        """Whether that leaves something for a thread to send."""
        try:
            self.write()
        except PeerGone as error:
            self._broken = error
        self._uploading = self._broken is None and self.transport.unsent > 0
        return self._uploading

    def receive(self, timeout_s: float | None = None) -> Arrived:
        """The next message. Raises LinkError if all of it does not come in time, or the peer went away."""
        timeout_s = self._answer_timeout_s if timeout_s is None else timeout_s
        if self._broken is not None:
            timeout_s = min(timeout_s, LAST_WORDS_S)
        deadline_s = perf_counter() + timeout_s
        while (arrived := self.transport.next()) is None:
            left_s = deadline_s - perf_counter()
            if left_s <= 0:
                if self._broken is not None:
                    raise self._gone(self._broken)
                raise LinkError(f"the server at {self.server} did not answer within {timeout_s:g} s")
            self._read(math.ceil(min(left_s, LONGEST_SLEEP_S) * 1e3))
        return arrived

    def poll(self) -> Iterator[Arrived]:
        """The messages that have come, one after another; never waits. Raises as `receive` does."""
        yield from iter(self.transport.next, None)
        self._read(0)
        yield from iter(self.transport.next, None)

    def _read(self, wait_ms: int) -> None:
        """Read what has come, or comes within this time."""
        try:
            if self._readable.poll(wait_ms):
                self.read()
        except PeerGone as error:
            raise self._gone(self._broken or error) from error

    def _gone(self, how: PeerGone) -> PeerGone:
        return PeerGone(f"the server at {self.server} went away ({how})")

    def close(self) -> None:
        """Close the socket."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes an upload, if there is one
        self.socket.close()

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def _poller(connection: socket.socket, event: int) -> select.poll:
    poller = select.poll()
    poller.register(connection, event)
    return poller
