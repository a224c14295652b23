"""A world without time: both sessions, simulated models, a wire of real frames, and a recorder; what happens next, of
all that may, is drawn by a seed. Messages may come twice, and late: also when their response is over.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from aiflow_cli.decoding.actions import Action, Deliver, Finish, Send, Work
from aiflow_cli.decoding.device import DeviceSession, Task
from aiflow_cli.decoding.events import Cancelled, Event, Received, Started
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.node.perform import perform
from aiflow_cli.wire.framing import decode, encode
from aiflow_cli.wire.messages import Message, Picture
from aiflow_cli.world.record import Link, Setting, Trial
from aiflow_cli.world.recorder import Recorder
from tests.decoding.models import Behaviour, CachedModel

PASS_S = 13e-6
"""Every piece of work takes so long; it waits for QUEUE_US on the server."""
QUEUE_US = 3
PICTURE = Picture(b"an image")
LINK = Link(uplink_bytes_per_s=None, downlink_bytes_per_s=None, burst_bytes=1, delay_s=0.0)


@dataclass
class Clock:
    """Goes on by PASS_S whenever it is read."""

    now_s: float = 0.0

    def __call__(self) -> float:
        self.now_s += PASS_S
        return self.now_s


@dataclass
class Side:
    """One session with its models: work that is asked for, messages on their way to it, and the trace of both."""

    session: DeviceSession | ServerSession
    target: CachedModel
    draft: CachedModel
    work: deque[Work] = field(default_factory=deque)
    inbox: deque[bytes] = field(default_factory=deque)
    asked: list[Action] = field(default_factory=list)
    finished: Finish | None = None

    def receive(self) -> Message:
        return decode(self.inbox.popleft())

    def compute(self, clock: Callable[[], float]) -> Event:
        return perform(self.work.popleft(), {"target": self.target, "draft": self.draft}, QUEUE_US, clock)


class World:
    """One device and one server. `run` goes on until nothing is left to do. `echo`: the share of messages that come
    twice.
    """

    def __init__(self, behaviour: Behaviour, seed: int = 0, can_draft: bool = True, echo: float = 0.0) -> None:
        self.behaviour = behaviour
        self.rng = random.Random(seed)
        self.echo = echo
        self.clock = Clock()
        self.server = Side(
            ServerSession(behaviour.stop_ids, behaviour.vocab_size, can_draft),
            CachedModel(behaviour.target),
            CachedModel(behaviour.draft),
        )
        self.device: Side
        self.recorder: Recorder
        self.delivered: list[int] = []
        self.deliveries: list[int] = []
        self.messages: list[Message] = []
        self.requests = 6
        self._late: deque[bytes] = deque()

    def begin(
        self, method: Method, gamma: int, max_new_tokens: int, committed: tuple[int, ...] = (), exact: float = 0.0
    ) -> DeviceSession:
        """Start a response; the server goes on as it is, and what was on its way to the device before is so still."""
        behaviour = self.behaviour
        self.requests += 1
        task = Task(self.requests, method, gamma, max_new_tokens, "what is there?", PICTURE, exact, committed)
        session = DeviceSession(task, behaviour.stop_ids, behaviour.vocab_size)
        late = self.device.inbox if self.requests > 7 else deque[bytes]()
        self.device = Side(session, CachedModel(behaviour.target), CachedModel(behaviour.draft), inbox=late)
        self.recorder = Recorder(planned(method, gamma))
        self.recorder.begun(self.clock())
        self.delivered, self.deliveries, self.messages = [], [], []
        self.server.asked, self.server.finished = [], None
        self.tell(self.device, Started())
        return session

    def cancel(self) -> None:
        """The device gives up; nothing more is told to it."""
        self.tell(self.device, Cancelled())
        self.device.finished = Finish(False)
        self.device.work.clear()

    def run(self, steps: int | None = None) -> None:
        """Take `steps` steps, or as many as there are."""
        while (steps is None or steps > 0) and self.step():
            steps = None if steps is None else steps - 1

    def step(self) -> bool:
        """Let one of the things happen that may happen next; False if there is none."""
        open_sides = [self.server, *([] if self.device.finished else [self.device])]
        may = [(side, what) for side in open_sides for what in ("work", "inbox") if getattr(side, what)]
        if not may:
            return False
        side, what = self.rng.choice(may)
        if what == "inbox":
            self.hear(side)
        else:
            self.compute(side)
        return True

    def hear(self, side: Side) -> None:
        """Read a message."""
        size = len(side.inbox[0])
        message = side.receive()
        if side is self.device:
            self.recorder.received(message, size, self.clock())
        self.tell(side, Received(message))

    def compute(self, side: Side) -> None:
        """Do a piece of work."""
        work, begun_s = side.work[0], self.clock()
        done = side.compute(self.clock)
        assert not isinstance(done, Received | Started | Cancelled)
        if side is self.device:
            self.recorder.performed(work, done, begun_s, self.clock())
        self.tell(side, done)

    def tell(self, side: Side, event: Event) -> None:
        """Hand an event to a session and begin all that it asks for."""
        for action in side.session.handle(event):
            side.asked.append(action)
            assert side.finished is None or side is self.server, "an action after the end"
            match action:
                case Send(message):
                    self._send(side, message)
                case Deliver(tokens):
                    assert side is self.device
                    self.recorder.delivered(tokens, self.clock())
                    self.delivered += tokens
                    self.deliveries.append(len(tokens))
                case Finish(stopped):
                    side.finished = action
                    side.work.clear()  # a draft model may still be prefilled: nobody waits for it
                    self.recorder.finished(stopped)
                case _:
                    side.work.append(action)

    def _send(self, side: Side, message: Message) -> None:
        frame = encode(message)
        self.messages.append(message)
        inbox = (self.server if side is self.device else self.device).inbox
        if side is self.device:
            self.recorder.sent(message, len(frame), self.clock())
        inbox.append(frame)
        if self.rng.random() < self.echo:
            inbox.append(frame)
        if self.rng.random() < self.echo and self._late:
            late = self._late.popleft()
            (self.server if late[0] else self.device).inbox.append(late[1:])
        if self.echo:
            self._late.append(bytes([side is self.device]) + frame)

    def trial(self) -> Trial:
        """What was recorded of the response."""
        return self.recorder.trial("")

    def kinds(self) -> list[str]:
        """The names of all messages of this response, in the order in which they were sent."""
        return [type(message).__name__ for message in self.messages]


def planned(method: Method, gamma: int) -> Trial:
    """A trial before it is made."""
    setting = Setting(pair="small", method=method, gamma=gamma or None, link=LINK)
    return Trial(
        trial="0", node="", block=0, order=0, repeat=0, image_id="", image_bytes=8, setting=setting, started_at=""
    )


def respond(world: World, method: Method, gamma: int, max_new_tokens: int) -> DeviceSession:
    """A whole response."""
    session = world.begin(method, gamma, max_new_tokens)
    world.run()
    return session
