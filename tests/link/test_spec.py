"""What a link may be, and addresses as people write them."""

from __future__ import annotations

import math
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.errors import LinkError, UsageError
from aiflow_cli.link.address import Address, bound_address, listen, parse_address, resolve
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
