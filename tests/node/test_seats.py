"""Caches: made once for a device that comes again and again, freed after a crowd, never more than there are seats."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack

import msgspec
import pytest

from aiflow_cli.models.decoder import Decoder
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node import server
from aiflow_cli.node.client import Client
from aiflow_cli.node.connection import Connection
from aiflow_cli.node.server import MAX_SEATS, SPARE_SEATS
from aiflow_cli.wire.messages import Cancel, Tokens
from tests.e2e.tools import wait_for
from tests.node.served import Served, caption, reason_of

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


class Poor(Counting):
    """A model whose machine has no memory for its first cache of this many positions."""

    too_large = 0

    def decoder(self, max_length: int) -> Decoder:
        if max_length >= self.too_large:
            self.too_large = self.positions + 1
            raise MemoryError
        return super().decoder(max_length)


@pytest.fixture
def counting(tiny_target: VisionLanguageModel) -> Counting:
    model = Counting(tiny_target.name, tiny_target.model, tiny_target.tokenizer, tiny_target.original)
    model.alive = weakref.WeakSet()
    return model


@pytest.fixture
def served(counting: Counting) -> Iterator[Served]:
    with Served(counting) as started:
        yield started


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


@pytest.mark.parametrize("too_large", [0, 512], ids=["the first cache", "a larger cache"])
def test_a_cache_for_which_there_was_no_memory_is_tried_again(too_large: int, counting: Counting) -> None:
    """The seat is as it was: with a small cache or none, and it is the next device's, too."""
    model = Poor(counting.name, counting.model, counting.tokenizer, counting.original)
    model.alive, model.too_large = counting.alive, too_large
    with Served(model) as served:
        expected = served.caption() if too_large else []
        with served.connect() as unlucky:
            unlucky.send(served.request(max_new_tokens=400))
            assert "MemoryError" in reason_of(unlucky.receive)
        with served.connect() as device:
            assert len(caption(device, served.request(max_new_tokens=400))) > len(expected)
            assert caption(device, served.request())[: len(expected)] == expected


def test_a_request_of_a_device_that_left_while_it_waited_is_held_no_longer(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its picture: also while there is no response whose end would bring a collection of garbage."""
    monkeypatch.setattr(server, "MAX_SEATS", 1)
    with served.connect() as seated:
        begin(served, seated)
        assert_begun([seated])
        with served.connect() as waiting:
            waiting.send(served.request())
            served.wait_until_clients(2)
            client = weakref.ref(list(served.server._clients)[1])
            wait_for(lambda: asked(client), "the request")
        wait_for(lambda: client() is None, "the client to be forgotten")


def asked(client: weakref.ref[Client]) -> bool:
    known = client()
    return known is not None and bool(known.jobs)


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
