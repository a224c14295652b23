"""What answers at an address that is no server of ours: one line that names the address, and what to do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from aiflow_cli.errors import LinkError
from aiflow_cli.link.address import Address, bound_address
from aiflow_cli.node import connection
from aiflow_cli.node.connection import Connection
from aiflow_cli.node.stream import PeerGone
from aiflow_cli.wire.framing import encode
from aiflow_cli.wire.messages import Refused, pack_ids
from aiflow_cli.wire.messages import Tokens as TokensMessage
from aiflow_cli.world.live import ask


@contextmanager
def answering(answer: bytes | None) -> Iterator[Address]:
    """Something that reads one hello and answers with these bytes and the end; None: with nothing, for ever."""

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(1000)
            if answer is None:
                over.wait()
            else:
                peer.sendall(answer)

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield bound_address(listener)
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "over the limit"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "over the limit"),
        (b"\0\0\0\4junk", "no message of this protocol"),
        (b"\0\0", "went away (it closed the connection)"),
        (b"", "went away (it closed the connection)"),
        (encode(TokensMessage(1, 0, pack_ids([1]), False, 0, 0)), "answers a hello with Tokens"),
        (encode(Refused("the device speaks protocol 2, this server 1: install the same aiflow on both")), "protocol 2"),
    ],
    ids=["http", "ssh", "junk", "half", "nothing", "tokens", "older"],
)
def test_no_server_of_ours(answer: bytes, words: str) -> None:
    with answering(answer) as address, pytest.raises(LinkError) as caught:
        ask(address)
    assert words in str(caught.value)
    assert str(address) in str(caught.value)


def test_a_web_server_that_waits_for_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HELLO_TIMEOUT_S", 0.3)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        address = Address("127.0.0.1", server.server_port)
        with pytest.raises(LinkError, match=rf"{address}.*: is {address} where an `aiflow serve` listens\?"):
            ask(address)
        thread.join()


def test_a_port_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HELLO_TIMEOUT_S", 0.3)
    with answering(None) as address, pytest.raises(LinkError) as caught:
        ask(address)
    assert f"the server at {address} did not answer within 0.3 s: is {address} where" in str(caught.value)


def test_a_port_that_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = bound_address(free)
    with pytest.raises(
        PeerGone, match=rf"no server at {address} \(connection refused\): start one with `aiflow serve`"
    ):
        ask(address)


def test_messages_name_the_server_not_the_relay_before_it() -> None:
    server = Address("192.0.2.7", 7411)
    with answering(b"") as relay, Connection(relay, server) as device, pytest.raises(PeerGone) as caught:
        device.greet(None)
    assert str(server) in str(caught.value)
    assert str(relay) not in str(caught.value)
