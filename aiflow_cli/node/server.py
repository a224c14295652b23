"""The edge server: one thread, one event loop, many devices.

Sockets are looked at between any two pieces of work (a prefill, a verification, a decode step), so a device that dies
or cancels frees its state within one of them, and devices take turns, one piece each. Whatever goes wrong on behalf of
one device ends that device's connection and no other. A single thread hands a message from the socket to the model
without a wake-up between; the price is that a message that comes during another device's work is stamped when that
piece ends, so its queueing time is short by at most one piece.
"""

from __future__ import annotations

import contextlib
import gc
import selectors
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter

from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.errors import AiflowError
from aiflow_cli.link.address import OUT_OF_ROOM
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.client import Client, Job, Timeouts
from aiflow_cli.node.compute import Compute
from aiflow_cli.node.perform import Models, perform
from aiflow_cli.node.process import DROPPED
from aiflow_cli.node.stream import PeerGone
from aiflow_cli.wire.framing import SMALL_FRAME_BYTES
from aiflow_cli.wire.messages import PROTOCOL_VERSION, Served, Welcome

TICK_S = 0.5
"""How often an idle server looks for late peers."""
MAX_CLIENTS = 256
MAX_SEATS = 32
"""Devices that are served at the same time, each with its caches, its seat; the requests of others wait for one."""
SPARE_SEATS = 2
"""Seats that are kept for the next requests, which are served sooner for it; others are freed with their response."""
MAX_HELD_BYTES = 256_000_000
"""What unfinished messages and pictures of all devices may take together: eight of the largest, thousands of the usual
size."""
SPIN_S = 0.05
"""How long after a device's last word the server looks for its next one without sleeping: drafting takes milliseconds,
and a core that slept has to wake and finds its caches colder (a round of the small pair took 5 to 10 % longer)."""


def next_in_turn(waiting: Sequence[Job]) -> Job:
    """What has waited longest. The next piece begins to wait with the answer, so devices take turns, one piece each.

    All that waits is handed to this one place, so that another order, or several pieces at once, has its place.
    """
    return min(waiting, key=lambda job: job.since_s)


class Server:
    """Serves the target model (and the draft, for co-located speculation) on a listening socket."""

    def __init__(
        self,
        listener: socket.socket,
        target: VisionLanguageModel,
        served: Served,
        draft: VisionLanguageModel | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        """Take over a listening socket. `served`: what devices are told of all this, for their results."""
        self._target = target
        self._models = {"target": target} | ({"draft": draft} if draft else {})
        self._timeouts = timeouts or Timeouts()
        self._greeting = Welcome(PROTOCOL_VERSION, target.fingerprint, served)
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        self._clients: dict[Client, None] = {}
        self._spare: list[Models] = []
        """Seats that no one has."""
        self._leaving: dict[Client, None] = {}
        """Refused ones, which are closed when they have had time to read why."""

    def serve(self, stopped: Callable[[], bool]) -> None:
        """Serve until `stopped()`, which is asked at least every TICK_S while idle."""
        gc.freeze()
        gc.disable()  # collected between responses only: a collection takes longer than a step
        looked_s = perf_counter()
        while not stopped():
            self._look(0.0 if self._waiting() or self._expecting() else TICK_S)
            if perf_counter() - looked_s > TICK_S:
                looked_s = perf_counter()
                self._tick(looked_s)
            if waiting := self._waiting():
                self._work(next_in_turn(waiting))

    def _waiting(self) -> list[Job]:
        """The work that can be done now: that of devices which have a seat, or can have one."""
        room = sum(client.seat is not None for client in self._clients) < MAX_SEATS
        return [job for client in self._clients if room or client.seat for job in client.jobs]

    def _expecting(self) -> bool:
        """Whether a device that is being served should speak within moments: then looking again beats sleeping."""
        now_s = perf_counter()
        return any(c.session.busy and now_s - c.transport.heard_at_s < SPIN_S for c in self._clients)

    def _look(self, timeout_s: float) -> None:
        for key, events in self._selector.select(timeout_s):
            client: Client | None = key.data
            if client is None:
                self._accept()
            elif client in self._leaving:
                if client.discard():
                    self._close(client)
            else:
                if events & selectors.EVENT_WRITE and client in self._clients:
                    self._guarded(client, client.flush)
                if events & selectors.EVENT_READ and client in self._clients:
                    self._guarded(client, client.read)

    def _accept(self) -> None:
        session = ServerSession(self._target.eos_ids, self._target.tokenizer.vocab_size, "draft" in self._models)
        try:
            connection, _ = self._listener.accept()
            client = Client(connection, session, self._greeting)
        except OSError as error:
            # Gone again before it was accepted; or there is no room: newcomers wait, those that are served go on.
            if error.errno in OUT_OF_ROOM:
                self._selector.unregister(self._listener)  # until the next tick
            return
        self._clients[client] = None
        self._selector.register(connection, selectors.EVENT_READ, client)
        if len(self._clients) > MAX_CLIENTS:
            self._drop(client, f"this server has {MAX_CLIENTS} devices already: try again later")

    def _guarded(self, client: Client, call: Callable[[], None]) -> None:
        """Run something on behalf of one device; whatever it breaks, only that device is dropped."""
        try:
            call()
        except PeerGone:
            self._drop(client)
        except AiflowError as error:
            self._drop(client, str(error))
        except Exception as error:
            _say(traceback.format_exc().rstrip())
            what = f"{type(error).__name__}: {error}"
            self._drop(client, f"the server failed on this request ({what}): see its standard error")
        else:
            self._after(client)

    def _after(self, client: Client) -> None:
        if client.transport.pending > SMALL_FRAME_BYTES and sum(c.held_bytes for c in self._clients) > MAX_HELD_BYTES:
            largest = max(self._clients, key=lambda c: c.held_bytes)
            self._drop(largest, "this server holds too many large messages at once: try again later")
            if largest is client:
                return
        if not client.session.busy:
            self._unseat(client)
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.transport.unsent else 0)
        if self._selector.get_key(client.socket).events != wanted:
            self._selector.modify(client.socket, wanted, client)

    def _drop(self, client: Client, reason: str | None = None) -> None:
        """Forget a device. With a reason, its connection closes when it has had time to read that."""
        del self._clients[client]
        self._unseat(client)
        if reason is None:
            self._close(client)
            return
        _say(DROPPED + reason)
        client.refuse(reason)
        self._leaving[client] = None
        self._selector.modify(client.socket, selectors.EVENT_READ, client)
        if len(self._leaving) > MAX_CLIENTS:
            self._close(next(iter(self._leaving)))

    def _unseat(self, client: Client) -> None:
        if client.seat is not None and len(self._spare) < SPARE_SEATS:
            self._spare.append(client.seat)
        client.seat = None

    def _close(self, client: Client) -> None:
        self._leaving.pop(client, None)
        self._selector.unregister(client.socket)
        client.socket.close()

    def _tick(self, now_s: float) -> None:
        """What is looked at now and then: who has been waited for too long, and whether newcomers have room again."""
        for client in list(self._clients):
            if (reason := client.overdue(now_s, self._timeouts)) is not None:
                self._drop(client, reason)
        for client in [one for one in self._leaving if now_s > one.closes_at_s]:
            self._close(client)
        if self._listener not in self._selector.get_map():
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _work(self, job: Job) -> None:
        """Do a piece of work and tell the session that waits for it."""
        client = job.client
        client.jobs.remove(job)
        self._guarded(client, partial(self._perform, job))
        if client not in self._clients or not client.session.busy:
            gc.collect(1)

    def _perform(self, job: Job) -> None:
        client, queue_us = job.client, round((perf_counter() - job.since_s) * 1e6)
        if client.seat is None:
            new = {name: Compute(model) for name, model in self._models.items()}
            client.seat = self._spare.pop() if self._spare else new
        client.tell(perform(job.work, client.seat, queue_us), perf_counter())

    def close(self) -> None:
        """Close every connection and the listening socket."""
        for client in [*self._clients, *self._leaving]:
            self._close(client)
        self._selector.close()
        self._listener.close()
        gc.enable()


def _say(line: str) -> None:
    """A line on standard error, where that goes anywhere: a log that is full or closed stops no server."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(line, file=sys.stderr, flush=True)
