"""A world without time: both sessions, simulated models and a wire of real frames; what happens next, of all that may, is drawn by a seed."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from aiflow_cli.decoding.actions import Action, Deliver, DraftTokens, Extend, Finish, PrefillDraft, PrefillTarget, Send
from aiflow_cli.decoding.device import DeviceSession, Task
from aiflow_cli.decoding.events import Drafted, Event, Extended, Prefilled, Received, Started
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.wire.framing import FrameReader, encode
from aiflow_cli.wire.messages import Message
from tests.decoding.models import Behaviour, CachedModel

WORK = (PrefillTarget, PrefillDraft, Extend, DraftTokens)


@dataclass
class Side:
    """One session with its models: work that is asked for, messages on their way to it, and the trace of both."""

    session: DeviceSession | ServerSession
    target: CachedModel
    draft: CachedModel
    work: deque[Action] = field(default_factory=deque)
    inbox: deque[bytes] = field(default_factory=deque)
    asked: list[Action] = field(default_factory=list)
    finished: Finish | None = None
    reader: FrameReader = field(default_factory=FrameReader)

    def receive(self) -> Message:
        ((message, _),) = self.reader.feed(self.inbox.popleft())
        return message

    def compute(self) -> Event:
        match action := self.work.popleft():
            case PrefillTarget():
                return Prefilled(self.target.prefill(), 11, 1)
            case PrefillDraft():
                return Prefilled(self.draft.prefill(), 12, 2)
            case Extend():
                return Extended(self.target.extend(action), 13, 3)
            case DraftTokens():
                return Drafted(self.draft.draft(action), 14)
            case _:
                raise AssertionError(f"{action} is no work")


class World:
    """One device and one server. `run` goes on until nothing is left to do."""

    def __init__(self, behaviour: Behaviour, seed: int = 0, can_draft: bool = True) -> None:
        self.behaviour = behaviour
        self.rng = random.Random(seed)
        self.server = Side(
            ServerSession(behaviour.stop_ids, behaviour.vocab_size, can_draft),
            CachedModel(behaviour.target),
            CachedModel(behaviour.draft),
        )
        self.device: Side
        self.delivered: list[int] = []
        self.deliveries: list[int] = []
        self.messages: list[Message] = []
        self.steps = 0

    def begin(self, method: Method, gamma: int, max_new_tokens: int, request_id: int = 7) -> DeviceSession:
        """Start a response; the server goes on as it is."""
        behaviour = self.behaviour
        task = Task(request_id, method, gamma, max_new_tokens, "what is there?", b"an image")
        session = DeviceSession(task, behaviour.stop_ids, behaviour.vocab_size)
        self.device = Side(session, CachedModel(behaviour.target), CachedModel(behaviour.draft))
        self.delivered, self.deliveries, self.messages = [], [], []
        self.server.asked, self.server.finished = [], None
        self.tell(self.device, Started())
        return session

    def run(self, steps: int | None = None) -> None:
        """Take `steps` steps, or as many as there are."""
        while steps is None or steps > 0:
            if not self.step():
                return
            steps = None if steps is None else steps - 1

    def step(self) -> bool:
        """Let one of the things happen that may happen next; False if there is none."""
        may = [(side, what) for side in (self.device, self.server) for what in ("work", "inbox") if getattr(side, what)]
        if not may:
            return False
        side, what = self.rng.choice(may)
        self.tell(side, side.compute() if what == "work" else Received(side.receive()))
        self.steps += 1
        return True

    def tell(self, side: Side, event: Event) -> None:
        """Hand an event to a session and begin all that it asks for."""
        for action in side.session.handle(event):
            side.asked.append(action)
            assert side.finished is None, "an action after the end"
            match action:
                case Send(message):
                    self.messages.append(message)
                    (self.server if side is self.device else self.device).inbox.append(encode(message))
                case Deliver(tokens):
                    assert side is self.device
                    self.delivered += tokens
                    self.deliveries.append(len(tokens))
                case Finish():
                    side.finished = action
                    side.work.clear()  # a draft model may still be prefilled: nobody waits for it
                case _:
                    assert isinstance(action, WORK)
                    side.work.append(action)

    def kinds(self) -> list[str]:
        """The names of all messages of this response, in the order in which they were sent."""
        return [type(message).__name__ for message in self.messages]


def respond(world: World, method: Method, gamma: int, max_new_tokens: int) -> DeviceSession:
    """A whole response."""
    session = world.begin(method, gamma, max_new_tokens)
    world.run()
    return session
