"""How long a server waits for its devices: for whole messages, not for bytes."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import replace

import pytest

from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.models.prompt import Prompt
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.client import Client, Timeouts
from aiflow_cli.node.stream import PeerGone
from aiflow_cli.wire.framing import LENGTH_BYTES, MAX_FRAME_BYTES, encode
from aiflow_cli.wire.messages import Draft, Refused, Tokens, Verdict, pack_ids
from aiflow_cli.wire.transport import MIN_BYTES_PER_S, allowed_s
from tests.e2e.tools import wait_for
from tests.node.served import Served, caption, last_words, reason_of

NEVER = Timeouts(hello_s=1e6, message_s=1e6, draft_s=1e6, idle_s=1e6)


def dribble(peer: socket.socket, data: bytes, every_s: float) -> float:
    """Send a byte now and then, until the server ends the connection; how long that took."""
    began_s = time.monotonic()
    for byte in data:
        peer.settimeout(every_s)
        try:
            peer.sendall(bytes([byte]))
            if peer.recv(1, socket.MSG_PEEK) is not None:
                return time.monotonic() - began_s
        except TimeoutError:
            continue
        except ConnectionError:
            return time.monotonic() - began_s
    raise AssertionError(f"all {len(data)} bytes were taken")


def test_a_hello_byte_by_byte_is_not_waited_for(tiny_target: VisionLanguageModel) -> None:
    with Served(tiny_target, replace(NEVER, hello_s=1.0)) as served, served.stranger(greeted=False) as peer:
        assert 1.0 <= dribble(peer, served.hello, 0.1) < 8
        peer.settimeout(10)
        assert b"no hello came in time" in last_words(peer)


def test_a_message_byte_by_byte_is_not_waited_for(tiny_target: VisionLanguageModel) -> None:
    """Its deadline counts from its first byte."""
    with Served(tiny_target, replace(NEVER, message_s=1.0)) as served, served.stranger() as peer:
        frame = (100).to_bytes(LENGTH_BYTES, "big") + bytes(100)
        assert 1.1 <= dribble(peer, frame, 0.1) < 8
        peer.settimeout(10)
        assert b"the rest of a message did not come in time" in last_words(peer)


def test_a_message_at_a_fair_rate_is_waited_for(tiny_target: VisionLanguageModel) -> None:
    """Ten times the grace, at several times the least rate; and each message has its own time."""
    with Served(tiny_target, replace(NEVER, message_s=0.1)) as served, served.stranger() as peer:
        for _ in range(2):
            frame = encode(served.request(max_new_tokens=1))
            assert len(frame) / MIN_BYTES_PER_S > 3
            for piece in pieces(frame):
                peer.sendall(piece)
                time.sleep(0.1)
            peer.settimeout(30)
            assert peer.recv(1000)


def pieces(data: bytes) -> list[bytes]:
    size = len(data) // 10
    return [data[at : at + size] for at in range(0, len(data), size)]


def test_a_device_that_owes_a_draft_is_not_waited_for_long(tiny_target: VisionLanguageModel) -> None:
    with (
        Served(tiny_target, replace(NEVER, draft_s=1.0)) as served,
        served.connect() as idle,
        served.connect() as owing,
    ):
        owing.send(served.request("speculative", 40))
        assert isinstance(owing.receive().message, Tokens)
        assert reason_of(owing.receive).startswith("nothing came from this device for")
        assert caption(idle, served.request())  # no draft is due from this one


def test_drafts_that_come_keep_a_response_alive(tiny_target: VisionLanguageModel) -> None:
    with Served(tiny_target, replace(NEVER, draft_s=1.5)) as served, served.connect() as device:
        request = served.request("speculative", 60)
        device.send(request)
        assert isinstance(device.receive().message, Tokens)
        epoch, known = 0, 1
        for _ in range(4):
            time.sleep(0.7)
            device.send(Draft(request.request_id, epoch, known, pack_ids((0,))))
            verdict = device.receive().message
            assert isinstance(verdict, Verdict), verdict
            epoch += verdict.node == 0
            known += verdict.node + 1


def test_an_idle_device_goes_in_the_end(tiny_target: VisionLanguageModel) -> None:
    """Also one that was served before; not one that is served all the time."""
    with Served(tiny_target, replace(NEVER, idle_s=2.0)) as served, served.connect() as idle, served.connect() as busy:
        caption(idle, served.request())
        began_s = time.monotonic()
        while time.monotonic() - began_s < 4:
            assert caption(busy, served.request())
        assert reason_of(idle.receive).startswith("nothing came from this device for")
        served.wait_until_clients(1)


class Slow(VisionLanguageModel):
    """A model whose prefill takes a while."""

    def prepare(self, image: bytes, question: str) -> Prompt:
        time.sleep(1.5)
        return super().prepare(image, question)


def test_the_work_itself_is_no_silence(tiny_target: VisionLanguageModel) -> None:
    """A prefill longer than any time-out; the device's time begins when the server is done."""
    slow = Slow(tiny_target.name, tiny_target.model, tiny_target.tokenizer, tiny_target.original)
    limits = Timeouts(hello_s=10, message_s=1.0, draft_s=1.0, idle_s=1.2)
    with Served(slow, limits) as served, served.connect() as device:
        expected = caption(device, served.request())
        time.sleep(0.6)
        assert caption(device, served.request()) == expected


def test_a_device_that_reads_nothing_is_not_written_to_for_ever(tiny_target: VisionLanguageModel) -> None:
    session = ServerSession(tiny_target.eos_ids, tiny_target.tokenizer.vocab_size, False)
    with Served(tiny_target) as served, socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        client = Client(listener.accept()[0], session, served.server._greeting)
        with peer, contextlib.closing(client.socket), pytest.raises(PeerGone, match="unread"):
            talk(client)


def talk(client: Client) -> None:
    """40 MB: more than the kernel holds, and the bound."""
    for _ in range(20_000):
        client.send(Refused("x" * 2000))


def test_a_machine_that_vanished_is_noticed(tiny_target: VisionLanguageModel) -> None:
    """The kernel asks after a minute of silence and gives up after another; what was sent may wait for two minutes."""
    with Served(tiny_target) as served, served.connect():
        served.wait_until_clients(1)
        (client,) = served.server._clients
        asked = [client.socket.getsockopt(socket.IPPROTO_TCP, option) for option in KEEPALIVE]
        assert client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert asked == [60, 15, 4, 120_000]


KEEPALIVE = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)


def test_the_largest_picture_comes_in_time_over_the_slowest_link_of_the_paper() -> None:
    assert allowed_s(MAX_FRAME_BYTES, Timeouts().message_s) > 50 * MAX_FRAME_BYTES / 500e3


@pytest.mark.parametrize("n_bytes", [1, 3])
def test_a_length_that_is_not_whole_has_its_time_too(n_bytes: int, tiny_target: VisionLanguageModel) -> None:
    with Served(tiny_target, replace(NEVER, message_s=0.5)) as served, served.stranger() as peer:
        peer.sendall(bytes(n_bytes))
        peer.settimeout(20)
        assert b"did not come in time" in last_words(peer)
        wait_for(lambda: served.n_clients == 0, "the end")
