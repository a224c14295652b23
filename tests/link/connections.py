"""Connections through a relay of which a test holds both ends, and what is done with them."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import NamedTuple

from aiflow_cli.link.address import Address

PATIENCE_S = 3.0 if "MUTANT_UNDER_TEST" in os.environ else 30.0
"""What takes longer never comes. `make mutants` waits for that often."""


class Ends(NamedTuple):
    """A connection: the client's end and the server's."""

    near: socket.socket
    far: socket.socket


class Relayed:
    """A listening socket of the test, and connections to it by way of a relay at `address`."""

    address: Address

    def __init__(self, listener: socket.socket | None = None) -> None:
        self.listener = listener or socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE_S)
        self._open: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """A client's end alone; the server's waits to be accepted."""
        return self._tuned(socket.create_connection(self.address, PATIENCE_S))

    def accept(self) -> socket.socket:
        far, _ = self.listener.accept()
        return self._tuned(far)

    def pair(self) -> Ends:
        """Both ends of a new connection."""
        near = self.connect()
        return Ends(near, self.accept())

    def _tuned(self, end: socket.socket) -> socket.socket:
        end.settimeout(PATIENCE_S)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.append(end)
        return end

    def close(self) -> None:
        for one in (self.listener, *self._open):
            one.close()


def noise(n_bytes: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(n_bytes)


def receive(end: socket.socket, n_bytes: int) -> bytes:
    """So many bytes, or all until the end of the stream if that comes before."""
    data = bytearray()
    while len(data) < n_bytes and (piece := end.recv(min(1 << 20, n_bytes - len(data)))):
        data += piece
    return bytes(data)


def receive_all(end: socket.socket) -> bytes:
    return receive(end, 1 << 40)


def send_aside(end: socket.socket, data: bytes, close_after: bool = False) -> threading.Thread:
    """Send from a thread, since the kernel may not take all at once."""

    def send() -> None:
        with suppress(OSError):
            end.sendall(data)
            if close_after:
                end.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def push(end: socket.socket, n_bytes: int, patience_s: float = 0.3) -> int:
    """Send until nothing has been taken for a while; returns how much was."""
    end.setblocking(False)
    piece, taken, moved_s = memoryview(bytes(1_000_000)), 0, time.monotonic()
    while taken < n_bytes and time.monotonic() - moved_s < patience_s:
        try:
            taken += end.send(piece[: n_bytes - taken])
            moved_s = time.monotonic()
        except BlockingIOError:
            time.sleep(0.005)
    end.settimeout(PATIENCE_S)
    return taken


def transfer_s(source: socket.socket, destination: socket.socket, n_bytes: int) -> float:
    """From before the first byte is sent to the last one read."""
    data = bytes(n_bytes)
    began_s = time.monotonic()
    sender = send_aside(source, data)
    assert len(receive(destination, n_bytes)) == n_bytes
    took_s = time.monotonic() - began_s
    sender.join()
    return took_s


def ping_s(ends: Ends, n_bytes: int = 40) -> float:
    """There and back."""
    began_s = time.monotonic()
    for source, destination in (ends, reversed(ends)):
        source.sendall(bytes(n_bytes))
        assert len(receive(destination, n_bytes)) == n_bytes
    return time.monotonic() - began_s


def reset(end: socket.socket) -> None:
    """Close it with a reset instead of an end."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def ended(end: socket.socket) -> bool:
    """Whether the stream ends, by its end or by a reset."""
    try:
        return end.recv(100) == b""
    except ConnectionError:
        return True


def say(end: socket.socket, data: bytes) -> None:
    """These bytes, and nothing more."""
    end.sendall(data)
    end.shutdown(socket.SHUT_WR)


def arrives(listener: socket.socket, data: bytes) -> bool:
    """Whether one of the connections that wait carries these bytes and then ends."""
    for _ in range(10):
        far, _ = listener.accept()
        with far:
            far.settimeout(PATIENCE_S)
            if receive_all(far) == data:
                return True
    return False
