"""What a link may be, and addresses as people write them."""

from __future__ import annotations

import math
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.errors import LinkError, UsageError
from aiflow_cli.link.address import Address, bound_address, family, listen, parse_address, resolve, tune
from aiflow_cli.link.spec import LinkSpec


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0.0, 1e6), "uplink rate must be more than 0 B/s, not 0.0"),
        ((1e6, -5.0), "downlink rate must be more than 0 B/s, not -5.0"),
        ((math.nan, 1e6), "uplink rate"),
        ((1e6, 1e6, 0), "burst must be at least 1 byte, not 0"),
        ((1e6, 1e6, 1, 61.0), "delay must be 60 s or less, not 61.0 s"),
        ((1e6, 1e6, 10, -0.1), "delay must be 0 s or more, not -0.1"),
        ((1e6, 1e6, 10, math.inf), "delay must be 0 s or more, not inf"),
        ((1e6, 1e6, 10, math.nan), "delay must be 0 s or more, not nan"),
    ],
)
def test_links_that_cannot_be(arguments: tuple[float, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        LinkSpec(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "unlimited"),
    [
        (LinkSpec(math.inf, math.inf), True),
        (LinkSpec(math.inf, math.inf, delay_s=0.01), False),
        (LinkSpec(1e6, math.inf), False),
        (LinkSpec(math.inf, 1e6), False),
    ],
)
def test_only_a_link_without_rate_and_delay_needs_no_relay(spec: LinkSpec, unlimited: bool) -> None:
    assert spec.unlimited is unlimited


@given(st.ip_addresses(), st.integers(0, 65535))
def test_addresses_read_as_they_are_written(ip: object, port: int) -> None:
    address = Address(str(ip), port)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:7411", Address("127.0.0.1", 7411)),
        ("edge.example.org:1", Address("edge.example.org", 1)),
        ("[::1]:0", Address("::1", 0)),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "7411", ":7411", "host:", "host:port", "host:-1", "host:65536", "host:1.5", "a..b:1", "h:" + "9" * 5000],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="is no address: give HOST:PORT"):
        parse_address(text)


def test_a_host_that_is_not_there() -> None:
    with pytest.raises(LinkError, match=r"cannot find 256\.1\.1\.1:80"):
        resolve(Address("256.1.1.1", 80))


def test_names_are_looked_up_where_servers_listen() -> None:
    assert resolve(Address("localhost", 80)) == Address("127.0.0.1", 80)


def test_port_zero_is_any_free_one() -> None:
    with listen(Address("127.0.0.1", 0)) as listener:
        address = bound_address(listener)
        assert address.port > 0
        with socket.create_connection(address), pytest.raises(LinkError, match="give another port"):
            listen(address)


def test_the_slowest_link_and_the_longest_delay() -> None:
    assert LinkSpec(0.5, 1.0, 1, 60.0).delay_s == 60.0


def test_a_link_in_words() -> None:
    assert LinkSpec(1e6, 1e6, 10_000, 0.005).describe() == "1 MB/s, delay 5 ms, burst 10 KB"
    assert LinkSpec(5e5, 2e6).describe() == "500 KB/s up, 2 MB/s down, delay 0 s, burst 10 KB"


def test_brackets_only_where_a_host_has_colons() -> None:
    assert str(Address("::1", 7)) == "[::1]:7"
    assert str(Address("127.0.0.1", 7)) == "127.0.0.1:7"


def test_reasons_are_words_without_numbers() -> None:
    with listen(Address("127.0.0.1", 0)) as taken, pytest.raises(LinkError) as raised:
        listen(bound_address(taken))
    assert "(Address already in use" in str(raised.value)
    assert "Errno" not in str(raised.value)
    with pytest.raises(LinkError) as raised:
        resolve(Address("nowhere.invalid", 7))
    assert "Errno" not in str(raised.value)


def test_colons_are_of_the_other_family() -> None:
    assert family(Address("::1", 7)) is socket.AF_INET6
    assert family(Address("127.0.0.1", 7)) is family(Address("localhost", 7)) is socket.AF_INET


def test_the_other_family_too() -> None:
    try:
        listener = listen(Address("::1", 0))
    except LinkError:
        pytest.skip("there is no IPv6 here")
    with listener:
        address = bound_address(listener)
        assert address.host == "::1"
        assert resolve(address) == address
        socket.create_connection(address, 10).close()


def test_messages_leave_at_once_and_an_absence_is_noticed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as end:
        tune(end)
        assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        times = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert [end.getsockopt(socket.IPPROTO_TCP, option) for option in times] == [60, 15, 4]
