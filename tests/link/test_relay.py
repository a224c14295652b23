"""The relay over real sockets: what passes, in what time at least, and what it does with connections that end badly."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from aiflow_cli.link.relay import MAX_CONNECTIONS
from tests.link.process import Ends, Link, ping_s, receive, receive_all, send_aside, transfer_s


@pytest.fixture(scope="module")
def unlimited() -> Iterator[Link]:
    with Link("--rate", "unlimited") as link:
        yield link


@pytest.fixture(scope="module")
def slow() -> Iterator[Link]:
    """100 KB/s, so that much is under way while a test looks."""
    with Link("--rate", "100KB/s", "--burst", "1KB") as link:
        yield link


def noise(n_bytes: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(n_bytes)


@pytest.mark.parametrize("n_bytes", [1, 40, 1_000_003])
def test_bytes_pass_unchanged_both_ways(unlimited: Link, n_bytes: int) -> None:
    near, far = unlimited.pair()
    up, down = noise(n_bytes, 1), noise(n_bytes, 2)
    send_aside(near, up)
    send_aside(far, down)
    assert receive(far, n_bytes) == up
    assert receive(near, n_bytes) == down


def test_a_message_takes_the_time_of_the_fluid_model() -> None:
    """Never less than (bytes - burst) / rate + delay, each way at its rate; the upper bound is for a busy machine."""
    with Link("--uplink", "1MB/s", "--downlink", "250KB/s", "--burst", "10KB", "--delay", "15ms") as link:
        near, far = link.pair()
        assert 0.055 <= transfer_s(near, far, 50_000) < 0.055 * 8
        assert 0.175 <= transfer_s(far, near, 50_000) < 0.175 * 8


def test_rates_hold_over_several_messages() -> None:
    with Link("--rate", "1MB/s", "--burst", "10KB") as link:
        near, far = link.pair()
        began_s = time.monotonic()
        for _ in range(6):
            transfer_s(near, far, 50_000)
        assert 0.29 <= time.monotonic() - began_s < 0.29 * 8


def test_delay_counts_once_each_way() -> None:
    with Link("--delay", "40ms") as link:
        ends = link.pair()
        fastest_s = min(ping_s(ends) for _ in range(4))
        assert 0.08 <= fastest_s < 0.08 * 5


def test_delay_alone_is_no_limit_of_rate() -> None:
    """Bytes are under way together: 40 KB in pieces arrive one delay after they were sent, not one delay each."""
    with Link("--rate", "unlimited", "--delay", "100ms") as link:
        near, far = link.pair()
        began_s = time.monotonic()
        for _ in range(20):
            near.sendall(bytes(2000))
        receive(far, 40_000)
        assert 0.1 <= time.monotonic() - began_s < 0.8


def test_half_close_a_request_and_its_answer(slow: Link) -> None:
    near, far = slow.pair()
    near.sendall(noise(8000))
    near.shutdown(socket.SHUT_WR)
    assert receive_all(far) == noise(8000)
    far.sendall(noise(5000, 1))
    far.close()
    assert receive_all(near) == noise(5000, 1)


def test_the_end_of_the_stream_does_not_overtake_its_bytes(slow: Link) -> None:
    near, far = slow.pair()
    near.sendall(noise(20_000))
    near.close()
    began_s = time.monotonic()
    assert receive_all(far) == noise(20_000)
    assert time.monotonic() - began_s > 0.15


def test_a_server_that_ends_first_still_gets_all(slow: Link) -> None:
    """Both ways of the client's socket are over then, while its bytes are still in the relay."""
    near, far = slow.pair()
    far.shutdown(socket.SHUT_WR)
    send_aside(near, noise(60_000), close_after=True)
    assert receive_all(near) == b""
    assert receive_all(far) == noise(60_000)


def test_a_connection_that_is_half_over_costs_no_cpu(slow: Link) -> None:
    near, far = slow.pair()
    near.sendall(noise(60_000))
    near.shutdown(socket.SHUT_WR)
    far.shutdown(socket.SHUT_WR)
    assert receive_all(near) == b""
    cpu_s, began_s = slow.cpu_s(), time.monotonic()
    assert receive_all(far) == noise(60_000)
    took_s = time.monotonic() - began_s
    assert took_s > 0.3
    assert slow.cpu_s() - cpu_s < took_s / 4


def test_a_client_that_resets_takes_its_server_along_and_no_one_else(unlimited: Link) -> None:
    other = unlimited.pair()
    near, far = unlimited.pair()
    near.sendall(b"hello")
    assert receive(far, 5) == b"hello"
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    near.close()
    assert ended(far)
    assert ping_s(other) < 5
    assert ping_s(unlimited.pair()) < 5


def test_a_server_that_resets_takes_its_client_along(unlimited: Link) -> None:
    near, far = unlimited.pair()
    near.sendall(b"hello")
    assert receive(far, 5) == b"hello"
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    assert ended(near)


def ended(end: socket.socket) -> bool:
    """Whether the stream ends, by its end or by a reset."""
    try:
        return end.recv(100) == b""
    except ConnectionError:
        return True


def test_an_upstream_that_refuses_ends_the_client_and_not_the_relay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with Link("--rate", "unlimited", listener=listener) as link:
            ends = link.pair()
            listener.close()
            for _ in range(3):
                assert ended(link.connect())
            assert ping_s(ends) < 5
            link.listener = socket.create_server(address)
            assert ping_s(link.pair()) < 5
            counts = link.end()
    assert (counts["connections"], counts["refused"]) == (2, 3)


def test_an_upstream_that_is_silent_holds_up_no_one() -> None:
    """Its queue is full, so that a connection neither succeeds nor fails; the others go on, and so does it later."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    with Link("--rate", "unlimited", listener=listener) as link:
        ends = link.pair()
        full = [socket.socket() for _ in range(3)]
        for one in full:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        late = link.connect()
        late.sendall(b"late")
        assert max(ping_s(ends) for _ in range(20)) < 2
        for one in full:
            one.close()
        assert arrives(listener, b"late")


def arrives(listener: socket.socket, data: bytes) -> bool:
    """Whether one of the connections that wait carries these bytes."""
    for _ in range(10):
        far, _ = listener.accept()
        with far:
            far.settimeout(5)
            if receive(far, len(data)) == data:
                return True
    return False


def test_a_destination_that_reads_nothing_stops_its_source_and_no_one_else() -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    data = noise(40_000_000)
    with Link("--rate", "unlimited", listener=listener) as link:
        other = link.pair()
        near, far = link.pair()
        near.setblocking(False)
        taken = push(near, memoryview(data))
        assert taken < len(data) * 0.8
        assert ping_s(other) < 5
        near.setblocking(True)
        send_aside(near, data[taken:], close_after=True)
        assert receive_all(far) == data


def push(end: socket.socket, data: memoryview) -> int:
    """Send until nothing has been taken for a while; returns how much was."""
    taken, moved_s = 0, time.monotonic()
    while taken < len(data) and time.monotonic() - moved_s < 0.3:
        try:
            taken += end.send(data[taken:])
            moved_s = time.monotonic()
        except BlockingIOError:
            time.sleep(0.005)
    return taken


def test_a_slow_link_stops_its_source(slow: Link) -> None:
    """The relay holds 64 KB of a flow; the rest waits where it comes from."""
    near, _ = slow.pair()
    near.setblocking(False)
    assert push(near, memoryview(bytes(40_000_000))) < 32_000_000


@pytest.mark.parametrize("room", [0, 1])
def test_a_relay_without_descriptors_turns_away_newcomers_only(room: int) -> None:
    with Link("--rate", "unlimited") as link:
        ends = link.pair()
        relay = psutil.Process(link.process.pid)
        limit = relay.rlimit(psutil.RLIMIT_NOFILE)
        relay.rlimit(psutil.RLIMIT_NOFILE, (relay.num_fds() + room, limit[1]))
        newcomer = link.connect()
        assert ping_s(ends) < 5
        newcomer.close()
        relay.rlimit(psutil.RLIMIT_NOFILE, limit)
        assert ping_s(ends) < 5
        last = link.connect()
        last.sendall(b"last")
        assert arrives(link.listener, b"last")


def test_a_relay_without_descriptors_costs_no_cpu() -> None:
    """A newcomer goes on waiting at the door: asking again and again would take a whole core."""
    with Link("--rate", "unlimited") as link:
        ends = link.pair()
        relay = psutil.Process(link.process.pid)
        limit = relay.rlimit(psutil.RLIMIT_NOFILE)
        relay.rlimit(psutil.RLIMIT_NOFILE, (relay.num_fds(), limit[1]))
        late = link.connect()
        late.sendall(b"late")
        cpu_s, began_s = link.cpu_s(), time.monotonic()
        time.sleep(1.5)
        assert link.cpu_s() - cpu_s < (time.monotonic() - began_s) / 5
        assert ping_s(ends) < 5
        relay.rlimit(psutil.RLIMIT_NOFILE, limit)
        assert arrives(link.listener, b"late")


@pytest.mark.parametrize("uploading", [False, True])
def test_what_was_said_before_a_reset_still_arrives(uploading: bool) -> None:
    """As over a wire: the reason is on its way already when the one who gave it slams the door."""
    with Link("--rate", "unlimited", "--delay", "300ms") as link:
        near, far = link.pair()
        if uploading:
            send_aside(near, bytes(30_000_000))
            receive(far, 10_000)
        far.sendall(b"go away")
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        assert receive(near, 7) == b"go away"
        assert ended(near)
        assert ping_s(link.pair()) < 5


def test_what_a_client_said_before_its_reset_still_arrives(slow: Link) -> None:
    near, far = slow.pair()
    near.sendall(noise(20_000))
    time.sleep(0.05)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    near.close()
    assert receive(far, 20_000) == noise(20_000)
    assert ended(far)


def test_a_delay_alone_does_not_hold_all_that_a_source_can_send() -> None:
    with Link("--rate", "unlimited", "--delay", "20s") as link:
        near, _ = link.pair()
        before_bytes = psutil.Process(link.process.pid).memory_info().rss
        near.setblocking(False)
        taken = push(near, memoryview(bytes(300_000_000)))
        assert taken < 100_000_000
        assert psutil.Process(link.process.pid).memory_info().rss - before_bytes < 150_000_000


def test_a_newcomer_too_many_is_turned_away() -> None:
    with Link("--rate", "unlimited") as link:
        pairs = [link.pair() for _ in range(MAX_CONNECTIONS)]
        assert ended(link.connect())
        assert ping_s(pairs[0]) < 5
        for end in pairs.pop():
            end.close()
        time.sleep(0.5)
        assert ping_s(link.pair()) < 5


def test_many_connections_share_the_rate_and_keep_their_bytes() -> None:
    with Link("--rate", "2MB/s", "--burst", "10KB") as link:
        pairs = [link.pair() for _ in range(30)]
        texts = [noise(50_000, seed) for seed in range(len(pairs))]
        began_s = time.monotonic()
        took_s = [0.0] * len(pairs)

        def take(number: int, ends: Ends) -> None:
            assert receive(ends.far, 50_000) == texts[number]
            took_s[number] = time.monotonic() - began_s

        readers = [threading.Thread(target=take, args=(number, ends)) for number, ends in enumerate(pairs)]
        for reader in readers:
            reader.start()
        for ends, text in zip(pairs, texts, strict=True):
            ends.near.sendall(text)
        for reader in readers:
            reader.join()
        fluid_s = (30 * 50_000 - 10_000) / 2e6
        assert fluid_s <= max(took_s) < fluid_s * 8
        early_s = sorted(took_s)[len(took_s) // 4]
        assert early_s > max(took_s) * 0.45, "the rate was given to one after another"
        assert link.end()["uplink_bytes"] == 30 * 50_000


def test_a_small_message_passes_bulk() -> None:
    with Link("--rate", "500KB/s", "--burst", "1KB") as link:
        bulk, small = link.pair(), link.pair()
        send_aside(bulk.near, bytes(400_000))
        receive(bulk.far, 10_000)
        assert ping_s(small) < 0.4, "first come first served, it would wait for 64 KB of bulk at least, or for all"
