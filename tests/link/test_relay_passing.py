"""The relay over real sockets: what passes, in what time at least, and how those who share a link fare."""

from __future__ import annotations

import math
import statistics
import threading
import time

import pytest

from aiflow_cli.link.spec import LinkSpec
from tests.link.connections import Ends, noise, ping_s, receive, send_aside, transfer_s
from tests.link.here import Here, both


@pytest.mark.parametrize("n_bytes", [1, 40, 1_000_003])
def test_bytes_pass_unchanged_both_ways(n_bytes: int) -> None:
    with Here() as link:
        near, far = link.pair()
        up, down = noise(n_bytes, 1), noise(n_bytes, 2)
        send_aside(near, up)
        send_aside(far, down)
        assert receive(far, n_bytes) == up
        assert receive(near, n_bytes) == down


def test_a_message_takes_the_time_of_the_fluid_model() -> None:
    """Never less than (bytes - burst) / rate + delay, each way at its rate; the upper bound is for a busy machine."""
    with Here(LinkSpec(1e6, 0.25e6, 10_000, 0.015)) as link:
        near, far = link.pair()
        assert 0.055 <= transfer_s(near, far, 50_000) < 0.055 * 8
        assert 0.175 <= transfer_s(far, near, 50_000) < 0.175 * 8


def test_rates_hold_over_several_messages() -> None:
    with Here(both(1e6)) as link:
        near, far = link.pair()
        began_s = time.monotonic()
        for _ in range(6):
            transfer_s(near, far, 50_000)
        assert 0.29 <= time.monotonic() - began_s < 0.29 * 8


def test_delay_counts_once_each_way_and_the_relay_sleeps_meanwhile() -> None:
    with Here(both(1e6, delay_s=0.04)) as link:
        ends = link.pair()
        cpu_s = link.cpu_s()
        times_s = [ping_s(ends) for _ in range(10)]
        assert min(times_s) >= 0.08
        assert statistics.median(times_s) < 0.08 * 2
        assert link.cpu_s() - cpu_s < sum(times_s) / 5


def test_it_is_woken_to_the_nanosecond() -> None:
    """By default the kernel may let a thread sleep for 50,000 more."""
    with Here() as link:
        assert ping_s(link.pair()) < 5
        assert link.timer_slack_ns() == 1


def test_delay_alone_is_no_limit_of_rate() -> None:
    """Bytes are under way together: 40 KB in pieces arrive one delay after they were sent, not one delay each."""
    with Here(both(math.inf, delay_s=0.1)) as link:
        near, far = link.pair()
        began_s = time.monotonic()
        for _ in range(20):
            near.sendall(bytes(2000))
        receive(far, 40_000)
        assert 0.1 <= time.monotonic() - began_s < 0.8


def test_it_counts_what_passed_and_how_late_it_was() -> None:
    with Here(both(math.inf, delay_s=0.01)) as link:
        for _ in range(3):
            near, far = link.pair()
            for _ in range(2):
                near.sendall(bytes(1000))
                receive(far, 1000)
            far.sendall(bytes(50))
            receive(near, 50)
        counts = link.end()
    assert (counts.uplink_bytes, counts.downlink_bytes, counts.connections, counts.refused) == (6000, 150, 3, 0)
    assert 0 < counts.max_lateness_s < 2


def test_many_connections_share_the_rate_and_keep_their_bytes() -> None:
    with Here(both(2e6)) as link:
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
        assert link.end().uplink_bytes == 30 * 50_000


def test_a_small_message_passes_bulk() -> None:
    with Here(both(0.5e6, 1000)) as link:
        bulk, small = link.pair(), link.pair()
        send_aside(bulk.near, bytes(400_000))
        receive(bulk.far, 10_000)
        assert ping_s(small) < 0.4, "first come first served, it would wait for 64 KB of bulk at least, or for all"
