"""A refusal is read by the device before the connection closes; and a device waits for whole answers, not for bytes."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import ExitStack, suppress

import pytest

from aiflow_cli.decoding.device import Task
from aiflow_cli.decoding.methods import Method
from aiflow_cli.environment import ANSWER_TIMEOUT
from aiflow_cli.errors import LinkError, UsageError
from aiflow_cli.models.pair import find_pair
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.client import LINGER_BYTES, LINGER_S
from aiflow_cli.node.device import Device
from aiflow_cli.node.server import MAX_CLIENTS
from aiflow_cli.wire.framing import encode
from aiflow_cli.wire.messages import Picture, Refused, Tokens
from aiflow_cli.world.recorder import Recorder
from tests.conftest import photograph
from tests.decoding.world import planned
from tests.e2e.tools import wait_for
from tests.link.process import Link
from tests.node.served import PATIENCE_S, Served, gated, reason_of, request_for_caption, scripted

JUNK = b"\xff\xff\xff\xff"
REFUSAL = encode(Refused("too many devices here"))


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def test_the_reason_is_read_although_sending_fails(tiny_target: VisionLanguageModel) -> None:
    """The server has refused and closed before the device sends: a broken pipe is not what it is told."""

    def refuse(peer: socket.socket) -> None:
        peer.sendall(REFUSAL)
        reset(peer)

    task = Task(1, Method.SPECULATIVE, 4, 20, find_pair("small").question, Picture(photograph()))
    with scripted(tiny_target, refuse) as connection:
        time.sleep(0.3)
        with pytest.raises(LinkError, match="the server gave up: too many devices here"):
            Device(tiny_target).respond(task, connection, Recorder(planned(Method.SPECULATIVE, 4)))


def test_a_server_that_left_without_a_word_is_gone_at_once(tiny_target: VisionLanguageModel) -> None:
    with scripted(tiny_target, reset) as connection:
        time.sleep(0.3)
        began_s = time.monotonic()
        connection.send(request_for_caption())
        with pytest.raises(LinkError, match="went away"):
            connection.receive()
        assert time.monotonic() - began_s < 10


def test_an_answer_byte_by_byte_is_not_waited_for(tiny_target: VisionLanguageModel) -> None:
    def dribble(peer: socket.socket) -> None:
        for byte in REFUSAL:
            peer.sendall(bytes([byte]))
            time.sleep(0.2)

    with scripted(tiny_target, dribble) as connection:
        began_s = time.monotonic()
        with pytest.raises(LinkError, match="did not answer within 1 s"):
            connection.receive(1.0)
        assert time.monotonic() - began_s < 4


def test_the_time_for_the_rest_of_an_answer_is_not_that_of_the_next(tiny_target: VisionLanguageModel) -> None:
    def in_two_parts(peer: socket.socket) -> None:
        peer.sendall(REFUSAL[:9])
        time.sleep(0.7)
        peer.sendall(REFUSAL[9:])
        time.sleep(0.7)
        peer.sendall(REFUSAL)

    with scripted(tiny_target, in_two_parts) as connection:
        assert reason_of(lambda: connection.receive(5.0)) == reason_of(lambda: connection.receive(5.0))


@pytest.mark.parametrize("delay", ["0", "300ms"])
def test_the_reason_arrives_in_the_middle_of_an_upload(delay: str, tiny_target: VisionLanguageModel) -> None:
    """Over a slow link: the rest of the upload is read and thrown away, so that the reason is not lost to a reset."""
    with (
        Served(tiny_target) as served,
        Link("--rate", "2MB/s", "--delay", delay, to=served.address) as link,
        socket.create_connection(link.address, PATIENCE_S) as device,
    ):
        device.sendall(served.hello)
        assert device.recv(65_536)
        with suppress(OSError):
            device.sendall(b"\xff\xff\xff\xff" + bytes(1_000_000))
        assert b"over the limit" in device.recv(65_536)


def test_a_stranger_that_goes_on_for_ever_is_not_listened_to_for_ever(tiny_target: VisionLanguageModel) -> None:
    with Served(tiny_target) as served, served.stranger() as peer:
        peer.settimeout(20)
        with pytest.raises(ConnectionError):
            peer.sendall(b"\xff" * (3 * LINGER_BYTES))
        served.wait_until_clients(0)
        assert served.caption()


def test_a_refused_stranger_that_stays_is_closed_in_the_end(tiny_target: VisionLanguageModel) -> None:
    """Its place and its seat are free at once, its socket after a while."""
    with Served(tiny_target) as served, served.stranger() as peer:
        began_s = time.monotonic()
        peer.sendall(b"\xff\xff\xff\xff")
        served.wait_until_clients(0)
        peer.settimeout(20)
        assert b"over the limit" in peer.recv(1000)
        wait_for(lambda: not takes_more(peer), "the end")
        assert time.monotonic() - began_s > LINGER_S - 1


def test_more_refused_strangers_than_are_waited_for_at_once(tiny_target: VisionLanguageModel) -> None:
    """Some are closed early, also when they have just said something that the server has yet to look at."""
    model = gated(tiny_target)
    with Served(model) as served, ExitStack() as stack:
        leaving = [stack.enter_context(served.stranger()) for _ in range(MAX_CLIENTS)]
        for peer in leaving:
            peer.sendall(JUNK)
        served.wait_until_clients(0)
        following = [stack.enter_context(served.stranger()) for _ in range(5)]
        busy = stack.enter_context(served.connect())
        busy.send(served.request())
        assert model.begun.wait(PATIENCE_S)
        for peer in following + leaving:
            peer.sendall(JUNK)
        model.may.set()
        assert isinstance(busy.receive(PATIENCE_S).message, Tokens)
        served.wait_until_clients(1)


def takes_more(peer: socket.socket) -> bool:
    try:
        peer.sendall(b"more")
    except ConnectionError:
        return False
    return True


@pytest.mark.parametrize("text", ["ten", "10m", "-1", "0", "nan", "inf", "1e400", "1e30"])
def test_a_time_that_is_none_is_wrong_use(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_ANSWER_TIMEOUT_S", text)
    with pytest.raises(
        UsageError, match=rf"AIFLOW_ANSWER_TIMEOUT_S='{text}' is no number of seconds above 0: write it as 600"
    ):
        ANSWER_TIMEOUT.value()


@pytest.mark.parametrize(("text", "seconds"), [("", None), ("  ", None), ("30", 30.0), (" 0.5 ", 0.5)])
def test_a_time_that_is_one(text: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_ANSWER_TIMEOUT_S", text)
    assert ANSWER_TIMEOUT.value() == seconds
