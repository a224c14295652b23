"""`aiflow link` as a process of its own, and connections through it of which a test holds both ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil

from aiflow_cli.link.address import Address, parse_address
from tests.e2e.tools import AIFLOW

PATIENCE_S = 30.0


class Ends(NamedTuple):
    """A connection: the client's end and the server's."""

    near: socket.socket
    far: socket.socket


class Link:
    """A relay process before a listening socket of this one, or before another address. Ends with the `with` block."""

    def __init__(self, *options: str, listener: socket.socket | None = None, to: Address | None = None) -> None:
        self.listener = listener or socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE_S)
        host, port = to or self.listener.getsockname()
        self.process = subprocess.Popen(
            [*AIFLOW, "link", "--to", f"{host}:{port}", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = parse_address(json.loads(self.process.stdout.readline())["listening"])
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

    def cpu_s(self) -> float:
        """CPU time of the relay so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def end(self, number: signal.Signals = signal.SIGTERM) -> dict[str, Any]:
        """Send a signal and wait: what the relay says at its end."""
        self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        assert (self.process.returncode, errors) == (0, ""), errors
        counts: dict[str, Any] = json.loads(output)
        return counts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()
        for one in (self.listener, *self._open):
            one.close()


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
    ends.near.sendall(bytes(n_bytes))
    receive(ends.far, n_bytes)
    ends.far.sendall(bytes(n_bytes))
    receive(ends.near, n_bytes)
    return time.monotonic() - began_s
