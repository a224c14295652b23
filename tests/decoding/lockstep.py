"""Both sessions in one loop without frames: one thing after another, as a stop-and-wait response goes."""

from __future__ import annotations

from typing import Protocol

from aiflow_cli.decoding.actions import Action, DraftTokens, Extend, Finish, PrefillDraft, PrefillTarget, Send
from aiflow_cli.decoding.device import DeviceSession, Task
from aiflow_cli.decoding.events import Drafted, Extended, Prefilled, Received, Started
from aiflow_cli.decoding.server import ServerSession


class Target(Protocol):
    """What answers a server session; `node.compute.Compute` does."""

    def prefill(self, action: PrefillTarget | PrefillDraft) -> int: ...
    def extend(self, action: Extend) -> tuple[int, ...]: ...
    def margins(self) -> tuple[float, ...]: ...


class Draft(Protocol):
    """What drafts; `node.compute.Compute` does."""

    def prefill(self, action: PrefillTarget | PrefillDraft) -> int: ...
    def draft(self, action: DraftTokens) -> tuple[int, ...]: ...


def respond(
    task: Task,
    stop_ids: frozenset[int],
    vocab_size: int,
    target: Target,
    draft: Draft,
    server: ServerSession | None = None,
) -> DeviceSession:
    """A whole response; the device's session at its end. The server's session is a new one, or goes on as it is."""
    device = DeviceSession(task, stop_ids, vocab_size)
    server = server or ServerSession(stop_ids, vocab_size, can_draft=True)
    waiting: list[tuple[DeviceSession | ServerSession, Action]] = [(device, a) for a in device.handle(Started())]
    while waiting:
        side, action = waiting.pop(0)
        match action:
            case Send(message):
                side, actions = (server if side is device else device), []
                actions = side.handle(Received(message))
            case PrefillTarget():
                actions = side.handle(Prefilled(target.prefill(action), 11, 1))
            case PrefillDraft():
                actions = side.handle(Prefilled(draft.prefill(action), 12, 2))
            case Extend():
                predictions = target.extend(action)
                actions = side.handle(Extended(predictions, 13, 3, target.margins() if action.margins else ()))
            case DraftTokens():
                actions = side.handle(Drafted(draft.draft(action), 14))
            case Finish() if side is device:
                return device
            case _:
                actions = []
        waiting += [(side, asked) for asked in actions]
    raise AssertionError("the response never ended")
