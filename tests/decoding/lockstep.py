"""Both sessions in one loop without frames: one thing after another, as a stop-and-wait response goes."""

from __future__ import annotations

from aiflow_cli.decoding.actions import Action, Deliver, Finish, Send
from aiflow_cli.decoding.device import DeviceSession, Task
from aiflow_cli.decoding.events import Received, Started
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.node.perform import Model, perform
from aiflow_cli.world.record import Trial
from aiflow_cli.world.recorder import Recorder
from tests.decoding.world import QUEUE_US, Clock, planned


def respond(
    task: Task,
    stop_ids: frozenset[int],
    vocab_size: int,
    target: Model,
    draft: Model,
    server: ServerSession | None = None,
) -> Trial:
    """A whole response, recorded. The server's session is a new one, or goes on as it is."""
    clock = Clock()
    device = DeviceSession(task, stop_ids, vocab_size)
    server = server or ServerSession(stop_ids, vocab_size, can_draft=True)
    recorder = Recorder(planned(task.method, task.gamma))
    recorder.begun(clock())
    waiting: list[tuple[DeviceSession | ServerSession, Action]] = [(device, a) for a in device.handle(Started())]
    while waiting:
        side, action = waiting.pop(0)
        match action:
            case Send(message):
                if side is device:
                    recorder.sent(message, 0, clock())
                else:
                    recorder.received(message, 0, clock())
                side = server if side is device else device
                actions = side.handle(Received(message))
            case Deliver(tokens):
                recorder.delivered(tokens, clock())
                actions = []
            case Finish(stopped):
                actions = []
                if side is device:
                    recorder.finished(stopped)
                    return recorder.trial("")
            case _:
                actions = side.handle(perform(action, {"target": target, "draft": draft}, QUEUE_US, clock))
        waiting += [(side, asked) for asked in actions]
    raise AssertionError("the response never ended")
