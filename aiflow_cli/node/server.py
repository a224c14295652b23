"""The edge server: one thread, one event loop, many devices.

Sockets are looked at between any two pieces of work (a prefill, a verification, a decode step), so a device that dies or
cancels frees its state within one of them, and devices take turns, one piece each. A single thread hands a message from the
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
from dataclasses import dataclass
from time import perf_counter

from aiflow_cli.decoding.actions import DraftTokens, Extend, PrefillDraft, PrefillTarget
from aiflow_cli.decoding.events import Drafted, Event, Extended, Prefilled
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.errors import AiflowError, ImageError, ProtocolError
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.client import Client, Gone, Pending
from aiflow_cli.node.compute import Compute
from aiflow_cli.wire.messages import PROTOCOL_VERSION, Served, Welcome

TICK_S = 0.5
"""How often an idle server looks for late peers and for its parent."""
MAX_CLIENTS = 256
SPIN_S = 0.05
"""How long after a device's last word the server looks for its next one without sleeping: drafting takes milliseconds, and a core
that slept has to wake and finds its caches colder (a round of the small pair took 5 to 10 % longer)."""


@dataclass(frozen=True)
class Timeouts:
    """How long a device may take to say hello, and between two pieces of one message."""

    hello_s: float = 10.0
    message_s: float = 30.0


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
        self._free_seats: list[_Seat] = []
        self._turns: deque[Client] = deque()

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
                self._drop_overdue(looked_s)
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
            client: Client = key.data
            if events & selectors.EVENT_WRITE:
                self._guarded(client, client.flush)
            if events & selectors.EVENT_READ and client in self._clients:
                self._guarded(client, client.read)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # gone again before it was accepted, or out of descriptors: those that are served go on
        session = ServerSession(self._target.eos_ids, self._target.tokenizer.vocab_size, self._draft is not None)
        client = Client(connection, session, self._greeting)
        if len(self._clients) >= MAX_CLIENTS:
            client.refuse(f"this server has {MAX_CLIENTS} devices already: try again later")
            return
        self._clients[client] = None
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _guarded(self, client: Client, call: Callable[[], None]) -> None:
        """Run something on behalf of one device; whatever it breaks, only that device is dropped."""
        had_work = client.pending is not None
        try:
            call()
        except Gone:
            self._drop(client)
        except (ProtocolError, ImageError) as error:
            self._drop(client, str(error))
        except (AiflowError, ValueError, RuntimeError, MemoryError) as error:
            traceback.print_exc()
            self._drop(client, f"the server failed on this request ({error}): see its standard error")
        else:
            self._after(client, had_work)

    def _after(self, client: Client, had_work: bool) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.wants_to_write else 0)
        if self._selector.get_key(client.socket).events != wanted:
            self._selector.modify(client.socket, wanted, client)
        if client.pending is not None and not had_work:
            self._turns.append(client)
        elif client.pending is None and had_work:
            with contextlib.suppress(ValueError):
                self._turns.remove(client)

    def _drop(self, client: Client, reason: str | None = None) -> None:
        """Forget a device: its seat goes to the next."""
        self._selector.unregister(client.socket)
        if reason is None:
            client.close()
        else:
            print(f"dropped a device: {reason}", file=sys.stderr, flush=True)
            client.refuse(reason)
        if seat := self._clients.pop(client):
            self._free_seats.append(seat)
        with contextlib.suppress(ValueError):
            self._turns.remove(client)

    def _drop_overdue(self, now_s: float) -> None:
        limits = self._timeouts
        for client in [c for c in self._clients if c.overdue(now_s, limits.hello_s, limits.message_s)]:
            self._drop(client, "the rest of a message did not come in time")

    def _work(self, client: Client) -> None:
        """Do one piece of work for one device, whose turn it is, and tell its session."""
        pending, client.pending = client.pending, None
        if pending is not None:
            self._guarded(client, lambda: self._do(client, pending))
        if not client.session.busy:
            gc.collect(1)

    def _do(self, client: Client, pending: Pending) -> None:
        seat = self._seat(client)
        begun_s = perf_counter()
        work = pending.work
        queue_us = _microseconds(begun_s - pending.since_s)
        result = _compute(seat, work)
        margins = seat.target.margins() if isinstance(work, Extend) and work.margins else ()
        done_s = perf_counter()
        client.tell(_event(work, result, queue_us, _microseconds(done_s - begun_s), margins), done_s)

    def _seat(self, client: Client) -> _Seat:
        seat = self._clients[client]
        if seat is None:
            seat = self._free_seats.pop() if self._free_seats else _Seat(self._target, self._draft)
            self._clients[client] = seat
        return seat

    def close(self) -> None:
        """Close every connection and the listening socket."""
        for client in list(self._clients):
            self._drop(client)
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


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)
