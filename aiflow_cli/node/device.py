"""The device: drives a DeviceSession with a draft model and a connection, and tells an observer what happened when.

What is timed: t0 is when the image's bytes are in memory and the response begins; a delivery is when the session hands
tokens out. Nothing else happens between: no output, no allocation worth naming, no garbage collection.

The draft model's prefill runs while the image is on its way (the kernel or a thread sends it); an answer that comes
before it is over counts when the device reads it. Between two passes of drafting the device looks at the socket; with
nothing to compute it waits there, so that its core is free and the answer wakes it at once.
"""

from __future__ import annotations

import contextlib
import gc
from collections import deque
from collections.abc import Iterator
from time import perf_counter
from typing import Protocol

from aiflow_cli.decoding.actions import Deliver, Finish, Send, Work
from aiflow_cli.decoding.device import DeviceSession, Task
from aiflow_cli.decoding.events import Cancelled, Event, Received, Started, WorkDone
from aiflow_cli.errors import AiflowError
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.compute import Compute
from aiflow_cli.node.connection import Connection
from aiflow_cli.node.perform import Models, perform
from aiflow_cli.wire.messages import Message
from aiflow_cli.wire.transport import Arrived


class _Observer(Protocol):
    """Who is told of a response as it is made, as `world/recorder.py` is. Times are of one monotonic clock, in seconds;
    bytes are whole frames.
    """

    def begun(self, at_s: float) -> None: ...
    def performed(self, work: Work, done: WorkDone, begun_s: float, done_s: float) -> None: ...
    def sent(self, message: Message, n_bytes: int, at_s: float) -> None: ...
    def received(self, message: Message, n_bytes: int, at_s: float) -> None: ...
    def delivered(self, tokens: tuple[int, ...], at_s: float) -> None: ...
    def finished(self, stopped: bool) -> None: ...


class Device:
    """A draft model. One device makes one response at a time, over whatever connection it is given."""

    def __init__(self, model: VisionLanguageModel) -> None:
        """The model's cache is made at the first response."""
        self.model = model
        self._models = {"draft": Compute(model)}

    def respond(self, task: Task, connection: Connection | None, observer: _Observer) -> tuple[int, ...]:
        """Make one response; its tokens. `connection` may be None for on-device.

        Raises LinkError, ProtocolError, ImageError. Whatever is raised, the server is told that the request is over:
        the connection can go on with the next.
        """
        session = DeviceSession(task, self.model.eos_ids, self.model.tokenizer.vocab_size)
        drive = _Drive(session, self._models, connection, observer)
        with _no_garbage_collection():
            try:
                drive.run()
            except BaseException:
                with contextlib.suppress(AiflowError, OSError):  # the server, if it still listens, is told
                    drive.tell(Cancelled())
                raise
        return tuple(session.output.tokens)


class _Drive:
    """One response under way."""

    def __init__(
        self, session: DeviceSession, models: Models, connection: Connection | None, observer: _Observer
    ) -> None:
        self._session, self._models, self._link, self._observer = session, models, connection, observer
        self._todo: deque[Work] = deque()

    def run(self) -> None:
        self._observer.begun(perf_counter())
        self.tell(Started())
        while not self._session.output.done:
            if self._todo:
                self._perform(self._todo.popleft())
            else:
                assert self._link is not None  # alone there is always work, until the response is complete
                self._hear(self._link.receive())

    def tell(self, event: Event) -> None:
        """Hand an event to the session, and do what it asks for; work waits in `_todo`."""
        for action in self._session.handle(event):
            match action:
                case Send(message):
                    assert self._link is not None  # alone nothing is sent
                    size = self._link.send(message)
                    self._observer.sent(message, size, self._link.sent_at_s)
                case Deliver(tokens):
                    self._observer.delivered(tokens, perf_counter())
                case Finish(stopped):
                    self._observer.finished(stopped)
                case _:
                    self._todo.append(action)

    def _perform(self, work: Work) -> None:
        begun_s = perf_counter()
        done = perform(work, self._models, wanted=self._hear_what_came)
        if not self._session.output.done:
            self._observer.performed(work, done, begun_s, perf_counter())
            self.tell(done)

    def _hear_what_came(self) -> bool:
        """Hear the messages that have come during work; whether the response goes on."""
        if self._link is not None:
            for arrived in self._link.poll():
                self._hear(arrived)
        return not self._session.output.done

    def _hear(self, arrived: Arrived) -> None:
        self._observer.received(arrived.message, arrived.n_bytes, arrived.at_s)
        self.tell(Received(arrived.message))


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A full collection takes tens of milliseconds with torch loaded: it runs between responses only."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
