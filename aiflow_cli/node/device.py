"""The device: drives a DeviceSession with a draft model and a connection, and times it.

What is timed: t0 is when the image's bytes are in memory and the response begins; a delivery is when the session hands
tokens out. In a round the clock is read four times (drafted, sent, answer read, tokens delivered), so that its parts follow
one another without gaps. Nothing else happens between: no output, no allocation worth naming, no garbage collection.

The draft model's prefill runs while the image is on its way (the kernel or a thread sends it); an answer that comes before it
is over counts when the device reads it.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import NamedTuple

from aiflow_cli.decoding import device as core
from aiflow_cli.decoding.actions import Action, Deliver, DraftTokens, Finish, PrefillDraft, Send
from aiflow_cli.decoding.device import DeviceSession, Task
from aiflow_cli.decoding.events import Drafted, Prefilled, Received, Started
from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import UsageError
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.compute import Compute
from aiflow_cli.node.connection import Connection
from aiflow_cli.node.response import Delivery, Prefill, Response, Round, ideal_ways, split_network
from aiflow_cli.wire.messages import Draft, Message

MICROSECONDS = 1e-6


class _Stamps(NamedTuple):
    """The clock in one round: last delivery, drafted, draft sent, answer read, tokens delivered."""

    begun_s: float
    drafted_s: float
    sent_s: float
    answered_s: float
    delivered_s: float


class Device:
    """A draft model. One device makes one response at a time, over whatever connection it is given."""

    def __init__(self, model: VisionLanguageModel) -> None:
        """The model's cache is made at the first response."""
        self.model = model
        self._compute = Compute(model)

    def respond(self, task: Task, connection: Connection | None, link: LinkSpec) -> Response:
        """Make one response. `connection` may be None for on-device. Raises LinkError, ProtocolError, ImageError."""
        with _no_garbage_collection():
            drive = _Drive(task, self._compute, connection)
            drive.run()
        return drive.response(link)


class _Drive:
    """One response under way."""

    def __init__(self, task: Task, compute: Compute, connection: Connection | None) -> None:
        model = compute.model
        self.session = DeviceSession(task, model.eos_ids, model.tokenizer.vocab_size)
        self.task, self.compute, self.connection = task, compute, connection
        self.deliveries: list[Delivery] = []
        self.rounds: list[_Stamps] = []
        self.sizes_up: list[int] = []
        self.stopped = False
        self.prefilled_s: float | None = None
        self.begun_s = self.drafted_s = self.sent_s = self.delivered_s = 0.0

    def run(self) -> None:
        if self.connection is not None:
            self.connection.take_counts()
        self.begun_s = self.delivered_s = perf_counter()
        actions = deque(self.session.handle(Started()))
        while True:
            while actions:
                if isinstance(action := actions.popleft(), Finish):
                    self.stopped = action.stopped
                    return
                actions += self._act(action)
            actions += self.session.handle(Received(self._receive()))

    def _act(self, action: Action) -> list[Action]:
        match action:
            case Send(message):
                self._send(message)
            case Deliver(tokens):
                self._deliver(len(tokens))
            case DraftTokens():
                drafted = self.compute.draft(action)
                self.drafted_s = perf_counter()
                return self.session.handle(Drafted(drafted, _microseconds(self.drafted_s - self.delivered_s)))
            case PrefillDraft():
                before_s = perf_counter()
                token = self.compute.prefill(action)
                self.prefilled_s = perf_counter() - before_s
                return self.session.handle(Prefilled(token, _microseconds(self.prefilled_s)))
            case _:
                raise TypeError(f"a device cannot {action}")
        return []

    def _send(self, message: Message) -> None:
        connection = self._connected()
        size = connection.send(message)
        self.sent_s = connection.sent_at_s
        if isinstance(message, Draft):
            self.sizes_up.append(size)
            self.drafted_s = max(self.drafted_s, self.delivered_s)

    def _receive(self) -> Message:
        return self._connected().receive()

    def _deliver(self, n_tokens: int) -> None:
        now_s = perf_counter()
        if self.deliveries and self.task.method is Method.SPECULATIVE:
            answered_s = self._connected().arrived_at_s
            self.rounds.append(_Stamps(self.delivered_s, self.drafted_s, self.sent_s, answered_s, now_s))
        self.deliveries.append(Delivery(now_s - self.begun_s, n_tokens))
        self.delivered_s = now_s

    def _connected(self) -> Connection:
        if self.connection is None:
            raise UsageError(f"method {self.task.method.value} needs a server: give --server, or let aiflow start one")
        return self.connection

    def response(self, link: LinkSpec) -> Response:
        up, down = self.connection.take_counts() if self.connection is not None else (None, None)
        result = Response(
            tokens=self.session.output.tokens,
            stopped=self.stopped,
            deliveries=self.deliveries,
            steps_s=[us * MICROSECONDS for us in self.session.step_us],
        )
        if up is not None and down is not None and self.task.method is not Method.ON_DEVICE:
            result.bytes_up, result.bytes_down = up, down
        result.prefill = self._prefill(result, link)
        result.rounds = list(self._remote_rounds(result, link) if self.rounds else self._server_rounds())
        return result

    def _prefill(self, result: Response, link: LinkSpec) -> Prefill:
        """An upload is timed by the server's first answer: what TTFT holds beyond queue, prefills and the answer's way down."""
        if self.task.method is Method.ON_DEVICE:
            return Prefill(draft_s=self.prefilled_s)
        queue_s, server_s = self.session.prefill_queue_us * MICROSECONDS, self.session.prefill_us * MICROSECONDS
        ideal = ideal_ways(link, result.bytes_up["Request"], 0)
        drafted_there_s = self.session.prefill_draft_us * MICROSECONDS
        network_s = self.deliveries[0].at_s - queue_s - server_s - drafted_there_s
        draft_s = drafted_there_s if self.task.method is Method.CO_LOCATED else self.prefilled_s
        return Prefill(draft_s, split_network(network_s, ideal).up_s, server_s, queue_s)

    def _remote_rounds(self, result: Response, link: LinkSpec) -> Iterator[Round]:
        down_bytes = round(result.bytes_down["Verdict"] / max(1, len(self.rounds)))
        for known, stamps, up_bytes in zip(self.session.rounds, self.rounds, self.sizes_up, strict=True):
            queue_s, verify_s = known.queue_us * MICROSECONDS, known.verify_us * MICROSECONDS
            network_s = stamps.answered_s - stamps.sent_s - queue_s - verify_s
            ways = split_network(network_s, ideal_ways(link, up_bytes, down_bytes))
            yield Round(
                drafted=known.drafted,
                judged=known.judged,
                accepted=known.accepted,
                delivered=known.delivered,
                draft_s=stamps.drafted_s - stamps.begun_s,
                encode_s=stamps.sent_s - stamps.drafted_s,
                uplink_s=ways.up_s,
                queue_s=queue_s,
                verify_s=verify_s,
                downlink_s=ways.down_s,
                apply_s=stamps.delivered_s - stamps.answered_s,
                wall_s=stamps.delivered_s - stamps.begun_s,
                bytes_up=up_bytes,
                bytes_down=down_bytes,
                redecide_steps=known.redecide_steps,
                redecide_s=known.redecide_us * MICROSECONDS,
            )

    def _server_rounds(self) -> Iterator[Round]:
        """Rounds on the server (co-located): nothing goes up, and what is not model time or queue is the way down."""
        for index, known in enumerate(self.session.rounds):
            yield _server_round(known, self.deliveries[index + 1].at_s - self.deliveries[index].at_s)


def _server_round(known: core.Round, wall_s: float) -> Round:
    draft_s, queue_s, verify_s = (us * MICROSECONDS for us in (known.draft_us, known.queue_us, known.verify_us))
    return Round(
        drafted=known.drafted,
        judged=known.judged,
        accepted=known.accepted,
        delivered=known.delivered,
        draft_s=draft_s,
        encode_s=0.0,
        uplink_s=0.0,
        queue_s=queue_s,
        verify_s=verify_s,
        downlink_s=max(0.0, wall_s - draft_s - queue_s - verify_s),
        apply_s=0.0,
        wall_s=wall_s,
        bytes_up=0,
        bytes_down=0,
        redecide_steps=known.redecide_steps,
        redecide_s=known.redecide_us * MICROSECONDS,
    )


def _microseconds(seconds: float) -> int:
    return round(seconds / MICROSECONDS)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A full collection takes tens of milliseconds with torch loaded: it runs between responses only."""
    enabled: Callable[[], None] = gc.enable if gc.isenabled() else gc.disable
    gc.disable()
    try:
        yield
    finally:
        enabled()
