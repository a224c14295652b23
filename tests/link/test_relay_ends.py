"""The relay over real sockets: connections that end, in order or badly, and those beside them."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable

import pytest

from aiflow_cli.link import relay
from tests.link.connections import ended, noise, ping_s, push, receive, receive_all, reset, send_aside
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


def test_the_end_of_the_stream_waits_for_bytes_that_are_not_taken() -> None:
    """All of it is there when its destination begins to read: more than the kernel holds."""
    with Here(both(math.inf, delay_s=0.3)) as link:
        near, far = link.pair()
        send_aside(near, noise(20_000_000), close_after=True).join()
        time.sleep(0.5)
        assert receive_all(far) == noise(20_000_000)


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
    """As over a wire: the reason is on its way already when the one who gave it slams the door. Where something waits
    to be written to that end, it is the writing that fails first.
    """
    with Here(both(1e8, delay_s=0.1)) as link:
        near, far = link.pair()
        if uploading:
            push(near, 30_000_000)
        with link.held():
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


def test_bytes_for_one_who_has_gone_end_the_connection_alone() -> None:
    """The second of two that are due together is refused by the kernel, which has learned of it by the first."""
    with Here(both(math.inf, delay_s=0.7)) as link:
        near, far = link.pair()
        for piece in (b"a", b"b"):
            near.sendall(piece)
            time.sleep(0.02)
        far.close()
        with link.held():
            time.sleep(0.8)
        assert ended(near)
        assert ping_s(link.pair()) < 5


def both_reset(link: Here) -> None:
    """While bytes are on their way in both directions."""
    near, far = link.pair()
    near.sendall(b"up")
    far.sendall(b"down")
    time.sleep(0.02)
    reset(near)
    time.sleep(0.02)
    reset(far)


def reset_behind_an_end(link: Here) -> None:
    """The server has the end of what the client says already, and says nothing itself."""
    near, far = link.pair()
    near.shutdown(socket.SHUT_WR)
    assert far.recv(1) == b""
    reset(near)


def reset_after_the_others_end(link: Here) -> None:
    near, far = link.pair()
    far.shutdown(socket.SHUT_WR)
    assert near.recv(1) == b""
    near.sendall(b"up")
    reset(near)
    assert receive_all(far) == b"up"


def ended_in_order(link: Here) -> None:
    for end in link.pair():
        end.close()


def ended_by_the_server_first(link: Here) -> None:
    near, far = link.pair()
    far.shutdown(socket.SHUT_WR)
    assert near.recv(1) == b""
    near.sendall(b"up")
    near.close()
    assert receive_all(far) == b"up"


@pytest.mark.parametrize(
    "finish",
    [both_reset, reset_behind_an_end, reset_after_the_others_end, ended_in_order, ended_by_the_server_first],
    ids=lambda finish: finish.__name__,
)
def test_what_is_over_leaves_its_place_to_the_next(
    finish: Callable[[Here], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is one place, and bytes take a tenth of a second."""
    monkeypatch.setattr(relay, "MAX_CONNECTIONS", 1)
    with Here(both(math.inf, delay_s=0.1)) as link:
        finish(link)
        time.sleep(0.5)
        assert ping_s(link.pair()) < 5


def test_its_end_is_the_end_of_all_connections() -> None:
    with Here() as link:
        near, far = link.pair()
        link.end()
        assert ended(near)
        assert ended(far)
        with pytest.raises(ConnectionRefusedError):
            link.connect()
