"""The device's side of one response, as a state machine without I/O; what it does is its method's."""

from __future__ import annotations

from aiflow_cli.decoding.actions import Action, Finish, Send
from aiflow_cli.decoding.events import Cancelled, Drafted, Event, Extended, Prefilled, Received, Started
from aiflow_cli.decoding.halves import Task
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.registry import DEVICE
from aiflow_cli.decoding.state import OutOfTurn, Output, Turns
from aiflow_cli.errors import LinkError, ProtocolError
from aiflow_cli.wire.messages import Answer, Cancel, Message, Refused

__all__ = ["DeviceSession", "Task"]


class DeviceSession:
    """Drives one response from Started to Finish. Raises a ProtocolError for whatever the peer must not do, a LinkError
    if it gives up; closed after that. What a server says of another request, one that was cancelled, is dropped unread.
    """

    def __init__(self, task: Task, stop_ids: frozenset[int], vocab_size: int) -> None:
        """Raises BadTokens if the task's committed tokens are none, or leave nothing to do."""
        self.task = task
        self.output = Output(task.max_new_tokens, stop_ids, vocab_size)
        if task.committed:
            self.output.resume(task.committed)
        self._turns = Turns()
        self._half = DEVICE[task.method](task, self.output, self._turns)
        self._started = self._closed = False

    def handle(self, event: Event) -> list[Action]:
        """What to do about an event, in order."""
        if self._closed:
            raise OutOfTurn("the session has ended: nothing more is expected")
        try:
            actions = self._handle(event)
        except (ProtocolError, LinkError):
            self._closed = True
            raise
        if self.output.done:
            self._closed = True
            actions.append(Finish(self.output.stopped))
        return actions

    def _handle(self, event: Event) -> list[Action]:
        match event:
            case Started() if not self._started:
                self._started = True
                return self._half.start()
            case Started():
                raise OutOfTurn("the response has begun already")
            case _ if not self._started:
                raise OutOfTurn(f"{type(event).__name__} although the response has not begun")
            case Received(message):
                return self._received(message)
            case Prefilled() | Drafted() | Extended():
                return self._turns.answered(event)
            case Cancelled():
                self._closed = True
                alone = self.task.method is Method.ON_DEVICE
                return [] if alone else [Send(Cancel(self.task.request_id))]

    def _received(self, message: Message) -> list[Action]:
        if isinstance(message, Refused):
            raise LinkError(f"the server gave up: {message.reason}")
        if not isinstance(message, Answer):
            raise OutOfTurn(f"the server sent {type(message).__name__}, which no device waits for")
        if message.request_id > self.task.request_id:
            raise OutOfTurn(f"the server answers request {message.request_id}, which was never made")
        return self._half.answer(message) if message.request_id == self.task.request_id else []
