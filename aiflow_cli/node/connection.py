"""The device's end of the link: one blocking socket, a send a message, bytes counted by kind of message.

While it waits for an answer the device blocks in recv, so that its core is free and the answer wakes it at once.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter, deque
from types import TracebackType
from typing import Self

from aiflow_cli import environment
from aiflow_cli.errors import LinkError, ProtocolError
from aiflow_cli.link.address import Address, tune
from aiflow_cli.wire.framing import SMALL_FRAME_BYTES, FrameReader, encode
from aiflow_cli.wire.messages import PROTOCOL_VERSION, Fingerprint, Hello, Message, Refused, Welcome

CONNECT_TIMEOUT_S = 10.0
HELLO_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 600.0
"""How long an answer may take: a large target prefills for minutes on a CPU, but nothing waits for ever."""
LAST_WORDS_S = 2.0
"""How long the server's reason is waited for when a message could not be sent."""
RECEIVE_BYTES = 65_536


def answer_timeout_s() -> float:
    """How long an answer may take, by the environment or by default; raises UsageError."""
    return environment.ANSWER_TIMEOUT.value() or ANSWER_TIMEOUT_S


class PeerGone(LinkError):  # noqa: N818
    """The connection ended, or broke, without a word of the server."""


class Connection:
    """A connected device. Raises LinkError for whatever happens to the link, ProtocolError for what is no message."""

    def __init__(
        self, address: Address, server: Address | None = None, connect_timeout_s: float = CONNECT_TIMEOUT_S
    ) -> None:
        """Connect to `address`. `server` is what messages name: where the server is, if a relay is before it."""
        self.server = server or address
        try:
            self._socket = socket.create_connection(address, connect_timeout_s)
        except OSError as error:
            raise PeerGone(f"no server at {self.server} ({_reason(error)}): start one with `aiflow serve`") from error
        tune(self._socket)
        self._answer_timeout_s = answer_timeout_s()
        self._socket.settimeout(self._answer_timeout_s)
        self._broken: OSError | None = None
        self._reader = FrameReader(SMALL_FRAME_BYTES)
        self._arrived: deque[tuple[Message, int]] = deque()
        self.bytes_up: Counter[str] = Counter()
        self.bytes_down: Counter[str] = Counter()
        self.arrived_at_s = 0.0
        """When the bytes that completed the last message were read (time.perf_counter)."""
        self.sent_at_s = 0.0
        """When the last message was handed to the kernel. Read before the call: the peer may run, and answer, before it returns."""

    def greet(self, fingerprint: Fingerprint | None) -> Welcome:
        """Say hello. Raises LinkError with the server's reason if it refuses this device, or if it is none of ours."""
        self.send(Hello(PROTOCOL_VERSION, fingerprint))
        try:
            message = self.receive(HELLO_TIMEOUT_S)
        except (ProtocolError, LinkError) as error:
            kind = PeerGone if isinstance(error, PeerGone) else LinkError
            raise kind(f"{error}: is {self.server} where an `aiflow serve` listens?") from error
        match message:
            case Welcome() as welcome:
                return welcome
            case Refused(reason=reason):
                raise LinkError(f"the server at {self.server} refuses this device: {reason}")
            case _:
                raise LinkError(f"the server at {self.server} answers a hello with {type(message).__name__}")

    def send(self, message: Message) -> int:
        """Hand a message to the kernel, in one call; its bytes. Returns at once: what the kernel does not take at once (a large
        image over a slow link) a thread sends, so that the draft model is prefilled meanwhile.
        """
        frame = encode(message)
        self.bytes_up[type(message).__name__] += len(frame)
        self._wait_at_most(self._answer_timeout_s)
        self.sent_at_s = time.perf_counter()
        try:
            sent = self._socket.send(frame)
        except OSError as error:
            # The server may have said why before it left: whoever waits for the answer reads that first.
            self._broken = error
            return len(frame)
        if sent < len(frame):
            threading.Thread(target=self._send_rest, args=(memoryview(frame)[sent:],), daemon=True).start()
        return len(frame)

    def _send_rest(self, rest: memoryview) -> None:
        with contextlib.suppress(OSError):  # whoever waits for the answer sees the same broken link, and reports it
            self._socket.sendall(rest)

    def receive(self, timeout_s: float | None = None) -> Message:
        """The next message. Raises LinkError if all of it does not come in time (by default: in that of an answer), or the peer went away."""
        timeout_s = self._answer_timeout_s if timeout_s is None else timeout_s
        if self._broken is not None:
            timeout_s = min(timeout_s, LAST_WORDS_S)
        deadline_s = time.perf_counter() + timeout_s
        self._wait_at_most(timeout_s)
        while not self._arrived:
            data = self._read(timeout_s)
            self.arrived_at_s = time.perf_counter()
            self._arrived.extend(self._reader.feed(data))
            if not self._arrived:  # part of a message: its rest has what remains of the time
                if self.arrived_at_s >= deadline_s:
                    raise self._late(timeout_s)
                self._wait_at_most(deadline_s - self.arrived_at_s)
        message, size = self._arrived.popleft()
        self.bytes_down[type(message).__name__] += size
        return message

    def _read(self, timeout_s: float) -> bytes:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except OSError as error:
            if isinstance(error, TimeoutError) and self._broken is None:
                raise self._late(timeout_s) from None
            raise self._gone(_reason(self._broken or error)) from error
        if not data:
            raise self._gone(_reason(self._broken) if self._broken else "it closed the connection")
        return data

    def _wait_at_most(self, timeout_s: float) -> None:
        if timeout_s != self._socket.gettimeout():  # a system call that most rounds can do without
            self._socket.settimeout(timeout_s)

    def _late(self, timeout_s: float) -> LinkError:
        return LinkError(f"the server at {self.server} did not answer within {timeout_s:g} s")

    def _gone(self, reason: str) -> PeerGone:
        return PeerGone(f"the server at {self.server} went away ({reason})")

    def take_counts(self) -> tuple[Counter[str], Counter[str]]:
        """Bytes up and down by kind since the last call."""
        taken = self.bytes_up, self.bytes_down
        self.bytes_up, self.bytes_down = Counter(), Counter()
        return taken

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        """The connection itself."""
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        """Close it."""
        self.close()


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()
