"""The server's side of a connection, as a state machine without I/O: one request after another."""

from __future__ import annotations

from aiflow_cli.decoding.actions import Action, Finish
from aiflow_cli.decoding.events import Drafted, Event, Extended, Prefilled, Received
from aiflow_cli.decoding.halves import ServerHalf
from aiflow_cli.decoding.registry import SERVER
from aiflow_cli.decoding.state import BadRequest, OutOfTurn, Output, Turns
from aiflow_cli.errors import ProtocolError
from aiflow_cli.wire.messages import Cancel, Draft, Message, Request


class ServerSession:
    """Serves the requests of one device. Raises a ProtocolError for whatever the peer must not do; it is closed after
    that.

    `can_draft` says whether the server has the draft model too (co-located). Ids of requests count upward: what comes
    late or twice of one that is over or cancelled is dropped unread.
    """

    def __init__(self, stop_ids: frozenset[int], vocab_size: int, can_draft: bool) -> None:
        self._stop_ids, self._vocab_size, self._can_draft = stop_ids, vocab_size, can_draft
        self._turns = Turns()
        self._half: ServerHalf | None = None
        self._latest = -1
        """The request that came last."""
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether a request is being served."""
        return self._half is not None

    def handle(self, event: Event) -> list[Action]:
        """What to do about an event, in order."""
        if self._closed:
            raise OutOfTurn("the session has ended: nothing more is expected")
        try:
            actions = self._handle(event)
        except ProtocolError:
            self._closed = True
            raise
        if self._half is not None and self._half.output.done:
            actions.append(Finish(self._half.output.stopped))
            self._idle()
        return actions

    def _handle(self, event: Event) -> list[Action]:
        match event:
            case Received(message):
                return self._received(message)
            case Prefilled() | Extended() | Drafted():
                return self._turns.answered(event)
            case _:
                raise OutOfTurn(f"{type(event).__name__} is no event of a server")

    def _received(self, message: Message) -> list[Action]:
        match message:
            case Request() | Draft() | Cancel() if message.request_id < self._latest:
                return []
            case Request():
                return self._start(message)
            case Draft() | Cancel() if message.request_id > self._latest:
                raise OutOfTurn(
                    f"the device sent {type(message).__name__} for request {message.request_id}, never made"
                )
            case Draft():
                return self._half.draft(message) if self._half else []
            case Cancel():
                self._idle()
                return []
            case _:
                raise OutOfTurn(f"the device sent {type(message).__name__}, which no server waits for")

    def _start(self, request: Request) -> list[Action]:
        if request.request_id == self._latest:
            return []
        if self._half is not None:
            raise OutOfTurn(f"the device makes request {request.request_id} while {self._latest} is served")
        if request.method not in SERVER:
            raise BadRequest(f"method {request.method!r} is not served: known are {', '.join(SERVER)}")
        half = SERVER[request.method]
        if half.drafts and not self._can_draft:
            start = "start it with `aiflow serve --pair PAIR --with-draft`"
            raise BadRequest(f"{request.method} needs the draft model on the server: {start}")
        if half.needs_gamma and request.gamma < 1:
            raise BadRequest(f"method {request.method} needs a draft length of at least 1")
        output = Output(request.max_new_tokens, self._stop_ids, self._vocab_size)
        if request.committed:
            output.resume(output.unpack(request.committed))
        self._latest = request.request_id
        self._half = half(request, output, self._turns)
        return self._half.start()

    def _idle(self) -> None:
        self._half = None
        self._turns.forget()
