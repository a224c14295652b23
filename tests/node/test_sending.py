"""The device's end while more is under way than a wait for one answer: a look at what has come, and a slow upload."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from aiflow_cli.errors import LinkError
from aiflow_cli.link.address import bound_address
from aiflow_cli.node.connection import Connection
from aiflow_cli.node.stream import PeerGone
from aiflow_cli.wire.framing import MAX_FRAME_BYTES, FrameTooLarge, encode
from aiflow_cli.wire.messages import Cancel, Message, Picture, Refused, Request
from aiflow_cli.wire.transport import Transport
from tests.e2e.tools import wait_for
from tests.node.served import PATIENCE_S

LARGE = Request(1, "server-only", 0, 5, "?", Picture(os.urandom(20_000_000)))
"""More than the kernel holds for both ends."""


class Ends(NamedTuple):
    """A connected device, and the server's bare end of its connection."""

    device: Connection
    peer: socket.socket


@pytest.fixture
def ends() -> Iterator[Ends]:
    with socket.create_server(("127.0.0.1", 0)) as listener, Connection(bound_address(listener)) as device:
        peer, _ = listener.accept()
        peer.settimeout(PATIENCE_S)
        with peer:
            yield Ends(device, peer)


def read_messages(peer: socket.socket, number: int) -> list[Message]:
    reader, messages = Transport(MAX_FRAME_BYTES, 0.0), list[Message]()
    while len(messages) < number:
        data = peer.recv(65_536)
        assert data, f"the end came after {messages}"
        reader.receive(data, 0.0)
        messages += [arrived.message for arrived in iter(reader.next, None)]
    return messages


def uploads() -> int:
    return sum(thread.name == "upload" for thread in threading.enumerate())


def test_a_look_at_an_empty_line_gives_nothing_and_does_not_wait(ends: Ends) -> None:
    began_s = time.monotonic()
    assert [list(ends.device.poll()) for _ in range(100)] == [[]] * 100
    assert time.monotonic() - began_s < 10


def test_a_look_gives_all_that_is_there_in_order_and_waits_for_no_rest(ends: Ends) -> None:
    rest = encode(Cancel(300))
    data = encode(Cancel(1)) + encode(Cancel(2)) + rest[:5]
    ends.peer.sendall(data)
    arrived = wait_for(lambda: list(ends.device.poll()), "the messages")
    assert [one.message for one in arrived] == [Cancel(1), Cancel(2)]
    assert sum(one.n_bytes for one in arrived) == len(data) - 5
    assert not list(ends.device.poll())
    ends.peer.sendall(rest[5:])
    assert ends.device.receive().message == Cancel(300)


def test_what_a_look_leaves_is_received(ends: Ends) -> None:
    ends.peer.sendall(encode(Cancel(1)) + encode(Cancel(2)))
    first = wait_for(lambda: next(ends.device.poll(), None), "a message")
    second = ends.device.receive()
    assert (first.message, second.message) == (Cancel(1), Cancel(2))
    assert first.at_s <= second.at_s


def test_a_look_sees_the_end_after_what_came_before_it(ends: Ends) -> None:
    ends.peer.sendall(encode(Refused("too late")))
    ends.peer.close()
    assert wait_for(lambda: [one.message for one in ends.device.poll()], "the reason") == [Refused("too late")]
    with pytest.raises(PeerGone, match="it closed the connection"):
        wait_for(lambda: list(ends.device.poll()), "the end")


def test_what_is_whole_before_a_fault_is_received(ends: Ends) -> None:
    ends.peer.sendall(encode(Cancel(1)) + b"\xff" * 9)
    assert ends.device.receive().message == Cancel(1)
    with pytest.raises(FrameTooLarge):
        ends.device.receive()


def test_a_large_message_is_sent_while_the_device_does_other_things(ends: Ends) -> None:
    """What is sent meanwhile follows it whole, although no one waits for it."""
    sizes = [ends.device.send(message) for message in (LARGE, Cancel(1), Cancel(2))]
    assert sizes[0] > 20_000_000
    assert uploads() == 1
    assert read_messages(ends.peer, 3) == [LARGE, Cancel(1), Cancel(2)]
    wait_for(lambda: uploads() == 0, "the upload's end")
    ends.device.send(LARGE)
    ends.device.send(Cancel(3))
    assert read_messages(ends.peer, 2) == [LARGE, Cancel(3)]


def test_an_answer_is_received_during_an_upload(ends: Ends) -> None:
    ends.device.send(LARGE)
    ends.peer.sendall(encode(Refused("too large")))
    assert ends.device.receive().message == Refused("too large")
    assert uploads() == 1


def test_an_upload_that_breaks_is_told_where_the_answer_is_waited_for(ends: Ends) -> None:
    ends.device.send(LARGE)
    ends.peer.close()
    began_s = time.monotonic()
    with pytest.raises(LinkError, match="went away"):
        ends.device.receive()
    assert time.monotonic() - began_s < 10
    wait_for(lambda: uploads() == 0, "the upload's end")


def test_an_upload_ends_with_its_connection(ends: Ends) -> None:
    ends.device.send(LARGE)
    assert uploads() == 1
    ends.device.close()
    wait_for(lambda: uploads() == 0, "the upload's end")
