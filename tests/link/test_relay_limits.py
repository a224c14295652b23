"""The relay over real sockets: upstreams that do not answer, more than it can take, and what it holds meanwhile."""

from __future__ import annotations

import math
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from aiflow_cli.link import relay
from aiflow_cli.link.address import Address, bound_address
from tests.link.connections import arrives, ended, noise, ping_s, push, receive, receive_all, say, send_aside
from tests.link.here import Here, both


def test_an_upstream_that_refuses_ends_the_client_and_not_the_relay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = bound_address(listener)
        with Here(listener=listener) as link:
            ends = link.pair()
            listener.close()
            for _ in range(3):
                assert ended(link.connect())
            assert ping_s(ends) < 5
            link.listener = socket.create_server(address)
            assert ping_s(link.pair()) < 5
            counts = link.end()
    assert (counts.connections, counts.refused) == (2, 3)


def test_an_upstream_without_a_way_to_it_is_one_that_refuses() -> None:
    """The kernel says so at once: connections to all of a network are not made."""
    with Here(to=Address("255.255.255.255", 80)) as link:
        for _ in range(2):
            assert ended(link.connect())
        counts = link.end()
    assert (counts.connections, counts.refused) == (0, 2)


def test_an_upstream_that_is_silent_holds_up_no_one() -> None:
    """Its queue is full, so that a connection neither succeeds nor fails; the others go on, and so does it later."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    with Here(listener=listener) as link:
        ends = link.pair()
        full = [socket.socket() for _ in range(3)]
        for one in full:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        late = link.connect()
        say(late, b"late")
        assert max(ping_s(ends) for _ in range(20)) < 2
        for one in full:
            one.close()
        assert arrives(listener, b"late")


def test_a_destination_that_reads_nothing_stops_its_source_and_no_one_else() -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    with Here(listener=listener) as link:
        other = link.pair()
        near, far = link.pair()
        taken, more = push(near, 40_000_000), 0
        assert taken < 40_000_000 * 0.8
        assert ping_s(other) < 5
        for _ in range(20):
            assert receive(far, 64_000) == bytes(64_000)
            more += push(near, 2_000_000, patience_s=0.05)
        assert more < 10_000_000, "it goes on as fast as the destination reads"
        send_aside(near, noise(1_000_000), close_after=True)
        assert receive_all(far) == bytes(taken + more - 20 * 64_000) + noise(1_000_000)


def test_a_slow_link_stops_its_source() -> None:
    """The relay holds 64 KB of a flow; the rest waits where it comes from."""
    with Here(both(1e5, 1000)) as link:
        near, _ = link.pair()
        assert push(near, 40_000_000) < 32_000_000


def test_a_delay_alone_does_not_hold_all_that_sources_can_send() -> None:
    """64 MB, which they share, and what the kernel has room for."""
    with Here(both(math.inf, delay_s=20.0)) as link:
        sources = [link.pair().near for _ in range(3)]
        process = psutil.Process()
        before_bytes = process.memory_info().rss
        assert 50_000_000 < sum(push(near, 100_000_000) for near in sources) < 90_000_000
        assert process.memory_info().rss - before_bytes < 150_000_000


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """This process may open so many files more: descriptors are numbered from the lowest that is free."""
    lowest = os.dup(0)
    os.close(lowest)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("room", [0, 1])
def test_a_relay_without_descriptors_turns_away_newcomers_only(room: int) -> None:
    with Here() as link:
        ends = link.pair()
        with socket.socket() as newcomer, descriptors_left(room):
            newcomer.settimeout(5)
            newcomer.connect(link.address)
            assert room == 0 or ended(newcomer)
            assert ping_s(ends) < 5
        assert ping_s(ends) < 5
        last = link.connect()
        say(last, b"last")
        assert arrives(link.listener, b"last")


def test_a_relay_without_descriptors_costs_no_cpu() -> None:
    """A newcomer goes on waiting at the door: asking again and again would take a whole core."""
    with Here() as link:
        ends = link.pair()
        with socket.socket() as late:
            with descriptors_left(0):
                late.connect(link.address)
                say(late, b"late")
                cpu_s, began_s = link.cpu_s(), time.monotonic()
                time.sleep(1.5)
                assert link.cpu_s() - cpu_s < (time.monotonic() - began_s) / 5
                assert ping_s(ends) < 5
            assert arrives(link.listener, b"late")


def test_a_newcomer_too_many_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MAX_CONNECTIONS", 3)
    with Here() as link:
        pairs = [link.pair() for _ in range(3)]
        assert ended(link.connect())
        assert ping_s(pairs[0]) < 5
        for end in pairs.pop():
            end.close()
        time.sleep(0.5)
        assert ping_s(link.pair()) < 5
