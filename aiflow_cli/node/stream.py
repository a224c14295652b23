"""A connected socket that never blocks, and its transport. Both ends of a connection read and write through it."""

from __future__ import annotations

import socket
from time import perf_counter

from aiflow_cli.errors import LinkError
from aiflow_cli.link.address import tune
from aiflow_cli.wire.framing import SMALL_FRAME_BYTES
from aiflow_cli.wire.transport import Transport

MOST_READ_BYTES = 262_144
LEAST_READ_BYTES = 4096
"""Read at once of a peer that announces no more: a flood of small messages takes turns with the work for others."""


class PeerGone(LinkError):  # noqa: N818
    """The peer ended the connection, or it broke; the message says how."""


class Stream:
    """Bytes between a socket and its transport, which takes small messages only until its bound is raised."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connected socket."""
        connection.setblocking(False)
        tune(connection)
        self.socket = connection
        self.transport = Transport(SMALL_FRAME_BYTES, perf_counter())

    def read(self) -> None:
        """Hand the transport what has come, if anything has. Raises PeerGone."""
        if data := self.take(min(MOST_READ_BYTES, max(LEAST_READ_BYTES, self.transport.missing))):
            self.transport.receive(data, perf_counter())

    def take(self, most_bytes: int = MOST_READ_BYTES) -> bytes:
        """What has come, past the transport; empty if nothing has. Raises PeerGone."""
        try:
            data = self.socket.recv(most_bytes)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise PeerGone(reason(error)) from error
        if not data:
            raise PeerGone("it closed the connection")
        return data

    def write(self) -> bool:
        """Hand the kernel what is to be sent, in one call; whether it took anything. Raises PeerGone."""
        try:
            self.transport.sent(self.socket.send(self.transport.to_send()))
        except BlockingIOError:
            return False
        except OSError as error:
            raise PeerGone(reason(error)) from error
        return True


def reason(error: OSError) -> str:
    """What an error of the system says, as a part of a sentence."""
    return (error.strerror or str(error) or type(error).__name__).lower()
