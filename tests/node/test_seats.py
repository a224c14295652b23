"""Caches: made once for a device that comes again and again, freed after a crowd, never more than there are seats."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack

import msgspec
import pytest

from aiflow_cli.models.decoder import Decoder
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.connection import Connection
from aiflow_cli.node.server import MAX_SEATS, SPARE_SEATS
from aiflow_cli.wire.messages import Cancel, Tokens
from tests.e2e.tools import wait_for
from tests.node.served import Served, caption

FIRST = 0


class Counting(VisionLanguageModel):
    """A model that knows its caches."""

    made = 0
    alive: weakref.WeakSet[Decoder]

    def decoder(self, max_length: int) -> Decoder:
        self.made += 1
        decoder = super().decoder(max_length)
        self.alive.add(decoder)
        return decoder


@pytest.fixture
def counting(tiny_target: VisionLanguageModel) -> Counting:
    model = Counting(tiny_target.name, tiny_target.model, tiny_target.tokenizer, tiny_target.original)
    model.alive = weakref.WeakSet()
    return model


@pytest.fixture
def served(counting: Counting) -> Iterator[Served]:
    with Served(counting) as server:
        yield server


def begin(served: Served, device: Connection) -> None:
    """Begin a response that occupies its cache until a draft comes."""
    device.send(msgspec.structs.replace(served.request("speculative", 40), request_id=FIRST))


def assert_begun(devices: list[Connection]) -> None:
    for device in devices:
        assert isinstance(device.receive(30).message, Tokens)


def test_a_device_that_comes_again_finds_its_cache(served: Served, counting: Counting) -> None:
    with served.connect() as one, served.connect() as other:
        for device in (one, other, one, one):
            caption(device, served.request())
    assert served.caption()
    assert counting.made == 1


def test_after_a_crowd_its_caches_are_freed(served: Served, counting: Counting) -> None:
    """At the end of the responses: the devices stay."""
    with ExitStack() as stack:
        devices = [stack.enter_context(served.connect()) for _ in range(12)]
        for device in devices:
            begin(served, device)
        assert_begun(devices)
        assert len(counting.alive) == 12
        for device in devices:
            device.send(Cancel(FIRST))
        wait_for(lambda: len(counting.alive) == SPARE_SEATS, "the caches to be freed")
        assert served.n_clients == 12
        assert caption(devices[5], served.request())
        assert counting.made == 12


def test_a_crowd_that_dies_leaves_no_caches(served: Served, counting: Counting) -> None:
    with ExitStack() as stack:
        devices = [stack.enter_context(served.connect()) for _ in range(12)]
        for device in devices:
            begin(served, device)
        assert_begun(devices)
    wait_for(lambda: len(counting.alive) == SPARE_SEATS, "the caches to be freed")
    assert served.caption()


def test_whoever_finds_no_seat_waits_for_one(served: Served, counting: Counting) -> None:
    """In order; and one that leaves, or thinks better of it, while it waits is passed over."""
    with ExitStack() as stack:
        devices = [stack.enter_context(served.connect()) for _ in range(MAX_SEATS + 6)]
        for device in devices:
            begin(served, device)
        seated, waiting = devices[:MAX_SEATS], devices[MAX_SEATS:]
        assert_begun(seated)
        waiting[0].close()
        waiting[1].send(Cancel(FIRST))
        wait_for(lambda: served.n_clients == len(devices) - 1, "the one that left")
        for leaving, following in zip(seated, waiting[2:], strict=False):
            leaving.send(Cancel(FIRST))
            assert_begun([following])
        assert counting.made == MAX_SEATS
        seated[-1].send(Cancel(FIRST))
        assert caption(waiting[1], served.request())
    wait_for(lambda: len(counting.alive) == SPARE_SEATS, "the caches to be freed")
