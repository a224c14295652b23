"""`aiflow link`: what it prints, how it ends, and what it says to wrong use."""

from __future__ import annotations

import signal
import socket

import pytest

from tests.e2e.tools import aiflow, one_line
from tests.link.connections import receive, transfer_s
from tests.link.process import Link


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_what_passed(number: signal.Signals) -> None:
    with Link("--rate", "unlimited") as link:
        for _ in range(3):
            near, far = link.pair()
            near.sendall(bytes(1000))
            receive(far, 1000)
            far.sendall(bytes(50))
            receive(near, 50)
        counts = link.end(number)
    lateness_s = counts.pop("max_lateness_s")
    assert counts == {"uplink_bytes": 3000, "downlink_bytes": 150, "connections": 3, "refused": 0}
    assert 0 <= lateness_s < 5


def test_it_ends_in_the_middle_of_a_transfer() -> None:
    with Link("--rate", "100KB/s", "--burst", "1KB") as link:
        near, far = link.pair()
        near.sendall(bytes(60_000))
        receive(far, 5000)
        counts = link.end()
        assert 5000 <= counts["uplink_bytes"] < 60_000
        assert len(receive(far, 60_000)) < 55_000


def test_default_is_one_megabyte_a_second_with_a_burst_of_ten_kilobytes() -> None:
    with Link() as link:
        near, far = link.pair()
        assert 0.04 <= transfer_s(near, far, 50_000) < 0.04 * 8


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finished = aiflow("link", "--to", "127.0.0.1:9", "--listen", f"127.0.0.1:{port}")
    assert finished.returncode == 1
    assert one_line(finished).startswith(f"error: cannot listen on 127.0.0.1:{port} (")
    assert "give another port" in one_line(finished)
    assert finished.stdout == ""


def test_a_host_that_is_not_there() -> None:
    finished = aiflow("link", "--to", "256.1.1.1:9")
    assert finished.returncode == 1
    assert "cannot find 256.1.1.1:9" in one_line(finished)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--rate", "fast"), "'fast' is not a rate: write it as 1MB/s"),
        (("--rate", "0MB/s"), "must be more than 0"),
        (("--uplink", "8Mb/s"), "'8Mb/s' may mean bits or bytes"),
        (("--delay", "20"), "'20' is not a duration: write it as 20ms"),
        (("--burst", "0"), "the burst must be at least 1 byte, not 0"),
        (("--burst", "lots"), "'lots' is not a size"),
        (("--listen", "7411"), "`7411` is no address: give HOST:PORT"),
    ],
)
def test_wrong_use(options: tuple[str, str], words: str) -> None:
    finished = aiflow("link", "--to", "127.0.0.1:9", *options)
    assert finished.returncode == 2
    assert words in one_line(finished)


def test_without_a_destination() -> None:
    finished = aiflow("link")
    assert finished.returncode == 2
    assert "--to" in finished.stderr
