"""Addresses as people write them: `HOST:PORT`, `[::1]:PORT`."""

from __future__ import annotations

import errno
import socket
from typing import NamedTuple

from aiflow_cli.errors import LinkError, UsageError

_ABSENCE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
"""Two minutes: a question after a minute of silence, and three more. Linux's names; others keep their times."""
OUT_OF_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Why a newcomer cannot be accepted although it is there: it goes on waiting, and asking at once would take a core."""


class Address(NamedTuple):
    """A TCP endpoint."""

    host: str
    port: int

    def __str__(self) -> str:
        """As `parse_address` reads it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """An Address of `HOST:PORT`; raises UsageError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not _can_be_host(host) or not port.isdecimal() or int(port[:6]) > 65535:
        raise UsageError(f"`{text}` is no address: give HOST:PORT, for example 127.0.0.1:7411")
    return Address(host, int(port))


def _can_be_host(host: str) -> bool:
    """Whether a look-up of this name may be tried: the resolver raises UnicodeError for others."""
    try:
        return bool(host.encode("idna"))
    except UnicodeError:
        return False


def listen(address: Address) -> socket.socket:
    """A listening TCP socket; raises LinkError if the port is taken or the host is not this one's."""
    try:
        return socket.create_server(address, family=family(address))
    except OSError as error:
        said = f"cannot listen on {address} ({error.strerror or error})"
        raise LinkError(f"{said}: give another port, or 0 for any that is free") from error


def tune(connection: socket.socket) -> None:
    """Have messages leave at once, and a peer that went away without a word noticed within two minutes of silence.

    Its machine may have lost its power, its cable or its cell.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
    for name, value in _ABSENCE:
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def resolve(address: Address) -> Address:
    """The same place with its host as a number, so that no look-up delays a connection; raises LinkError."""
    try:
        found = socket.getaddrinfo(*address, family=family(address), type=socket.SOCK_STREAM)
    except OSError as error:
        raise LinkError(f"cannot find {address} ({error.strerror or error}): check the host's name") from error
    return Address(*found[0][4][:2])


def family(address: Address) -> socket.AddressFamily:
    """Of names, IPv4: as `listen` binds them."""
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


def bound_address(listener: socket.socket) -> Address:
    """Where a listening socket can be reached."""
    return Address(*listener.getsockname()[:2])
