"""The edge server: one thread, one event loop, many devices.

Sockets are looked at between any two pieces of work (a prefill, a verification, a decode step), so a device that dies or
cancels frees its state within one of them, and devices take turns, one piece each. Whatever goes wrong on behalf of one device
ends that device's connection and no other. A single thread hands a message from the
socket to the model without a wake-up between; the price is that a message that comes during another device's work is
stamped when that piece ends, so its queueing time is short by at most one piece.
"""

from __future__ import annotations

import contextlib
import gc
import selectors
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable
from time import perf_counter

from aiflow_cli.decoding.actions import DraftTokens, Extend, PrefillDraft, PrefillTarget
from aiflow_cli.decoding.events import Drafted, Event, Extended, Prefilled
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.errors import AiflowError, ProtocolError
from aiflow_cli.link.address import OUT_OF_ROOM
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.client import Client, Gone, Pending, Timeouts
from aiflow_cli.node.compute import Compute
from aiflow_cli.node.farewell import Farewell
from aiflow_cli.wire.messages import PROTOCOL_VERSION, Served, Welcome

TICK_S = 0.5
"""How often an idle server looks for late peers and for its parent."""
MAX_CLIENTS = 256
MAX_SEATS = 32
"""Devices that are served at the same time, each with a cache; the requests of others wait for a seat."""
SPARE_SEATS = 2
"""Caches that are kept for the next request, which is served sooner for it; those of all others are freed with their response."""
MAX_HELD_BYTES = 256_000_000
"""What unfinished messages and pictures of all devices may take together: eight of the largest, thousands of the usual size."""
SPIN_S = 0.05
"""How long after a device's last word the server looks for its next one without sleeping: drafting takes milliseconds, and a core
that slept has to wake and finds its caches colder (a round of the small pair took 5 to 10 % longer)."""


class _Seat:
    """What a device that is being served occupies: a cache of the target, and of the draft model where there is one."""

    def __init__(self, target: VisionLanguageModel, draft: VisionLanguageModel | None) -> None:
        self.target = Compute(target)
        self.draft = Compute(draft) if draft is not None else None


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
        self._target, self._draft = target, draft
        self._timeouts = timeouts or Timeouts()
        self._greeting = Welcome(PROTOCOL_VERSION, target.fingerprint, served)
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        self._clients: dict[Client, _Seat | None] = {}
        self._leaving: dict[Farewell, None] = {}
        self._free_seats: list[_Seat] = []
        self._turns: deque[Client] = deque()
        self._unseated: deque[Client] = deque()
        self._deaf_until_s = 0.0

    @property
    def n_clients(self) -> int:
        """Connected devices."""
        return len(self._clients)

    def serve(self, stopped: Callable[[], bool]) -> None:
        """Serve until `stopped()`, which is asked at least every TICK_S while idle."""
        gc.freeze()
        gc.disable()  # collected between responses only: a collection takes longer than a step
        looked_s = perf_counter()
        while not stopped():
            self._look(0.0 if self._turns or self._expecting() else TICK_S)
            if perf_counter() - looked_s > TICK_S:
                looked_s = perf_counter()
                self._tick(looked_s)
            if self._turns:
                self._work(self._turns.popleft())

    def _expecting(self) -> bool:
        """Whether a device that is being served should speak within moments: then looking again beats sleeping."""
        now_s = perf_counter()
        return any(c.session.busy and now_s - c.heard_at_s < SPIN_S for c in self._clients)

    def _look(self, timeout_s: float) -> None:
        for key, events in self._selector.select(timeout_s):
            if key.fileobj is self._listener:
                self._accept()
                continue
            if isinstance(key.data, Farewell):
                if key.data.discard():
                    self._end(key.data)
                continue
            client: Client = key.data
            if events & selectors.EVENT_WRITE and client in self._clients:
                self._guarded(client, client.flush)
            if events & selectors.EVENT_READ and client in self._clients:
                self._guarded(client, client.read)

    def _accept(self) -> None:
        session = ServerSession(self._target.eos_ids, self._target.tokenizer.vocab_size, self._draft is not None)
        try:
            connection, _ = self._listener.accept()
            client = Client(connection, session, self._greeting)
        except OSError as error:
            # Gone again before it was accepted; or there is no room: newcomers wait, those that are served go on.
            if error.errno in OUT_OF_ROOM:
                self._selector.unregister(self._listener)
                self._deaf_until_s = perf_counter() + TICK_S
            return
        self._clients[client] = None
        self._selector.register(connection, selectors.EVENT_READ, client)
        if len(self._clients) > MAX_CLIENTS:
            self._drop(client, f"this server has {MAX_CLIENTS} devices already: try again later")

    def _guarded(self, client: Client, call: Callable[[], None]) -> None:
        """Run something on behalf of one device; whatever it breaks, only that device is dropped."""
        had_work = client.pending is not None
        try:
            call()
        except Gone:
            self._drop(client)
        except AiflowError as error:
            self._drop(client, str(error))
        except Exception as error:
            _say(traceback.format_exc().rstrip())
            what = f"{type(error).__name__}: {error}"
            self._drop(client, f"the server failed on this request ({what}): see its standard error")
        else:
            self._after(client, had_work)

    def _after(self, client: Client, had_work: bool) -> None:
        if client.uploading and sum(c.held_bytes for c in self._clients) > MAX_HELD_BYTES:
            largest = max(self._clients, key=lambda c: c.held_bytes)
            self._drop(largest, "this server holds too many large messages at once: try again later")
            if largest is client:
                return
        if not client.session.busy:
            self._vacate(client)
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.wants_to_write else 0)
        if self._selector.get_key(client.socket).events != wanted:
            self._selector.modify(client.socket, wanted, client)
        if client.pending is not None and not had_work:
            self._turns.append(client)
        elif client.pending is None and had_work:
            self._skip_turn(client)

    def _skip_turn(self, client: Client) -> None:
        for queue in (self._turns, self._unseated):
            with contextlib.suppress(ValueError):
                queue.remove(client)

    def _drop(self, client: Client, reason: str | None = None) -> None:
        """Forget a device: its seat goes to the next. With a reason, its connection closes when it has had time to read that."""
        self._vacate(client)
        self._skip_turn(client)
        del self._clients[client]
        if reason is None:
            self._selector.unregister(client.socket)
            client.close()
            return
        _say(f"dropped a device: {reason}")
        client.refuse(reason)
        farewell = Farewell(client.socket, perf_counter())
        self._leaving[farewell] = None
        self._selector.modify(client.socket, selectors.EVENT_READ, farewell)
        if len(self._leaving) > MAX_CLIENTS:
            self._end(next(iter(self._leaving)))

    def _end(self, farewell: Farewell) -> None:
        del self._leaving[farewell]
        self._selector.unregister(farewell.socket)
        farewell.socket.close()

    def _tick(self, now_s: float) -> None:
        """What has to be looked at now and then: devices that have been waited for too long, and whether newcomers have room again."""
        for client in list(self._clients):
            if (reason := client.overdue(now_s, self._timeouts)) is not None:
                self._drop(client, reason)
        for farewell in [one for one in self._leaving if now_s > one.until_s]:
            self._end(farewell)
        if self._deaf_until_s and now_s > self._deaf_until_s:
            self._deaf_until_s = 0.0
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _work(self, client: Client) -> None:
        """Do one piece of work for one device, whose turn it is, and tell its session."""
        if not self._seated(client):
            self._unseated.append(client)
            return
        pending, client.pending = client.pending, None
        if pending is not None:
            self._guarded(client, lambda: self._do(client, pending))
        if client not in self._clients or not client.session.busy:
            gc.collect(1)

    def _do(self, client: Client, pending: Pending) -> None:
        seat = self._clients[client]
        assert seat is not None
        begun_s = perf_counter()
        work = pending.work
        queue_us = _microseconds(begun_s - pending.since_s)
        result = _compute(seat, work)
        margins = seat.target.margins() if isinstance(work, Extend) and work.margins else ()
        done_s = perf_counter()
        client.tell(_event(work, result, queue_us, _microseconds(done_s - begun_s), margins), done_s)

    def _seated(self, client: Client) -> bool:
        """Whether a device has a seat, be it a new one."""
        if self._clients[client] is None:
            if sum(seat is not None for seat in self._clients.values()) >= MAX_SEATS:
                return False
            self._clients[client] = self._free_seats.pop() if self._free_seats else _Seat(self._target, self._draft)
        return True

    def _vacate(self, client: Client) -> None:
        """Take back the seat of a device that is not being served any more, if it has one: for the next that waits, or to spare."""
        seat, self._clients[client] = self._clients[client], None
        if seat is not None and self._unseated:
            following = self._unseated.popleft()
            self._clients[following] = seat
            self._turns.append(following)
        elif seat is not None and len(self._free_seats) < SPARE_SEATS:
            self._free_seats.append(seat)

    def close(self) -> None:
        """Close every connection and the listening socket."""
        for client in list(self._clients):
            self._drop(client)
        for farewell in list(self._leaving):
            self._end(farewell)
        self._selector.close()
        self._listener.close()
        gc.enable()


def _compute(seat: _Seat, work: PrefillTarget | PrefillDraft | Extend | DraftTokens) -> tuple[int, ...]:
    match work:
        case PrefillTarget():
            return (seat.target.prefill(work),)
        case Extend():
            return seat.target.extend(work)
    if seat.draft is None:
        raise ProtocolError("this server has no draft model: start it with --with-draft")
    if isinstance(work, PrefillDraft):
        return (seat.draft.prefill(work),)
    return seat.draft.draft(work)


def _event(
    work: object, result: tuple[int, ...], queue_us: int, compute_us: int, margins: tuple[float, ...] = ()
) -> Event:
    match work:
        case PrefillTarget() | PrefillDraft():
            return Prefilled(result[0], compute_us, queue_us)
        case Extend():
            return Extended(result, compute_us, queue_us, margins)
        case _:
            return Drafted(result, compute_us)


def _say(line: str) -> None:
    """A line on standard error, where that goes anywhere: a log that is full or closed stops no server."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(line, file=sys.stderr, flush=True)


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)
