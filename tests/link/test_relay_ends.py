"""The relay over real sockets: connections that end, in order or badly, and those beside them."""

from __future__ import annotations

import socket
import time

import pytest

from tests.link.connections import ended, noise, ping_s, receive, receive_all, reset, send_aside
from tests.link.here import Here, both

SLOW = both(1e5, 1000)
"""100 KB/s, so that much is under way while a test looks."""


def test_half_close_a_request_and_its_answer() -> None:
    with Here(SLOW) as link:
        near, far = link.pair()
        near.sendall(noise(8000))
        near.shutdown(socket.SHUT_WR)
        assert receive_all(far) == noise(8000)
        far.sendall(noise(5000, 1))
        far.close()
        assert receive_all(near) == noise(5000, 1)


def test_the_end_of_the_stream_does_not_overtake_its_bytes() -> None:
    with Here(SLOW) as link:
        near, far = link.pair()
        near.sendall(noise(20_000))
        near.close()
        began_s = time.monotonic()
        assert receive_all(far) == noise(20_000)
        assert time.monotonic() - began_s > 0.15


def test_a_server_that_ends_first_still_gets_all() -> None:
    """Both ways of the client's socket are over then, while its bytes are still in the relay."""
    with Here(SLOW) as link:
        near, far = link.pair()
        far.shutdown(socket.SHUT_WR)
        send_aside(near, noise(60_000), close_after=True)
        assert receive_all(near) == b""
        assert receive_all(far) == noise(60_000)


def test_a_connection_that_is_half_over_costs_no_cpu() -> None:
    with Here(SLOW) as link:
        near, far = link.pair()
        near.sendall(noise(60_000))
        near.shutdown(socket.SHUT_WR)
        far.shutdown(socket.SHUT_WR)
        assert receive_all(near) == b""
        cpu_s, began_s = link.cpu_s(), time.monotonic()
        assert receive_all(far) == noise(60_000)
        took_s = time.monotonic() - began_s
        assert took_s > 0.3
        assert link.cpu_s() - cpu_s < took_s / 4


def test_a_client_that_resets_takes_its_server_along_and_no_one_else() -> None:
    with Here() as link:
        other = link.pair()
        near, far = link.pair()
        near.sendall(b"hello")
        assert receive(far, 5) == b"hello"
        reset(near)
        assert ended(far)
        assert ping_s(other) < 5
        assert ping_s(link.pair()) < 5


def test_a_server_that_resets_takes_its_client_along() -> None:
    with Here() as link:
        near, far = link.pair()
        near.sendall(b"hello")
        assert receive(far, 5) == b"hello"
        reset(far)
        assert ended(near)


@pytest.mark.parametrize("uploading", [False, True])
def test_what_was_said_before_a_reset_still_arrives(uploading: bool) -> None:
    """As over a wire: the reason is on its way already when the one who gave it slams the door."""
    with Here(both(float("inf"), delay_s=0.3)) as link:
        near, far = link.pair()
        if uploading:
            send_aside(near, bytes(30_000_000))
            receive(far, 10_000)
        far.sendall(b"go away")
        reset(far)
        assert receive(near, 7) == b"go away"
        assert ended(near)
        assert ping_s(link.pair()) < 5


def test_what_a_client_said_before_its_reset_still_arrives() -> None:
    with Here(SLOW) as link:
        near, far = link.pair()
        near.sendall(noise(20_000))
        time.sleep(0.05)
        reset(near)
        assert receive(far, 20_000) == noise(20_000)
        assert ended(far)
