"""What a method is: what its device does and what its server does in one response. Each method's file fills in both
halves.

A half is told what happens and says what is to be done; the session around it (`device.py`, `server.py`) begins and
ends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aiflow_cli.decoding.actions import Action, Deliver, Extend, Prefill, Send
from aiflow_cli.decoding.events import Extended, Prefilled
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.state import BadCounts, BadTokens, OutOfTurn, Output, Turns
from aiflow_cli.wire.messages import Answer, Draft, Input, Request, Tokens, pack_ids


@dataclass(frozen=True)
class Task:
    """One response to make. `gamma` is 0 for methods without drafts; `exact_margin` see `decoding/exact.py`;
    `committed` are the ids that the device has already, of a response that goes on.
    """

    request_id: int
    method: Method
    gamma: int
    max_new_tokens: int
    prompt: str
    input: Input
    exact_margin: float = 0.0
    committed: tuple[int, ...] = ()


def prefill(model: Literal["target", "draft"], asked: Task | Request) -> Prefill:
    """The prefill of a model with what a response is about."""
    return Prefill(model=model, input=asked.input, prompt=asked.prompt, max_new_tokens=asked.max_new_tokens)


class DeviceHalf:
    """The device's side of a method. This one waits for tokens and delivers them."""

    def __init__(self, task: Task, output: Output, turns: Turns) -> None:
        self.task, self.output, self.turns = task, output, turns

    def start(self) -> list[Action]:
        """Begin: what a device with a server does."""
        task = self.task
        request = Request(
            task.request_id,
            task.method.value,
            task.gamma,
            task.max_new_tokens,
            task.prompt,
            task.input,
            task.exact_margin,
            pack_ids(task.committed),
        )
        return [Send(request)]

    def answer(self, message: Answer) -> list[Action]:
        """The server says something about this request: its first token, and those of its single steps."""
        if isinstance(message, Tokens):
            return self.arrived(message.base, message.ids, message.done)
        kind, method = type(message).__name__, self.task.method.value
        raise OutOfTurn(f"the server sent {kind}, which no device waits for in {method}")

    def arrived(self, base: int, packed: bytes, done: bool) -> list[Action]:
        """Tokens that follow `base` others; those that are there already are dropped. Raises ProtocolError."""
        if base < len(self.output.tokens):
            return []
        if base > len(self.output.tokens):
            raise OutOfTurn(f"the server sent what follows {base} tokens, {len(self.output.tokens)} are here")
        return self.deliver(self.output.unpack(packed), done)

    def deliver(self, tokens: tuple[int, ...], done: bool) -> list[Action]:
        """Commit tokens and hand them out. Raises BadTokens if they cannot be, or the server's `done` is not theirs."""
        self.output.commit(tokens)
        if done != self.output.done:
            says, tell = ("done", "it is not") if done else ("not done", "it is")
            raise BadTokens(f"the server says that the output is {says}, by its tokens {tell}")
        return [Deliver(tokens)]


class ServerHalf:
    """The server's side of a method. This one prefills the target, sends the first token, and goes on with `next`.

    A response that goes on has its committed tokens appended by single steps, as server-only made them: the cache is
    then bit for bit its own.
    """

    drafts = False
    """Whether the server's draft model is needed."""
    needs_gamma = True
    """Whether a draft length is."""

    def __init__(self, request: Request, output: Output, turns: Turns) -> None:
        self.request, self.output, self.turns = request, output, turns

    def start(self) -> list[Action]:
        """Begin."""
        return [self.turns.ask(prefill("target", self.request), self._prefilled)]

    def _prefilled(self, event: Prefilled) -> list[Action]:
        if not self.output.tokens:
            return self._begin(event.token, event.queue_us, event.compute_us)
        steps = Extend(keep=0, tokens=tuple(self.output.tokens), singly=True)

        def stepped(after: Extended) -> list[Action]:
            queue_us, compute_us = event.queue_us + after.queue_us, event.compute_us + after.compute_us
            return self._begin(after.predictions[-1], queue_us, compute_us)

        return [self.turns.ask(steps, stepped)]

    def _begin(self, token: int, queue_us: int, compute_us: int) -> list[Action]:
        self.output.commit((token,))
        return self.first(self.told((token,), queue_us, compute_us))

    def first(self, message: Tokens) -> list[Action]:
        """The first token is there: send it, then go on."""
        return [Send(message), *self.onward()]

    def told(self, tokens: tuple[int, ...], queue_us: int, compute_us: int) -> Tokens:
        """The message about tokens that one piece of work has just added to the output."""
        base = len(self.output.tokens) - len(tokens)
        return Tokens(self.request.request_id, base, pack_ids(tokens), self.output.done, queue_us, compute_us)

    def onward(self) -> list[Action]:
        """Go on unless the output is complete."""
        return [] if self.output.done else self.next()

    def next(self) -> list[Action]:
        """What follows what was just sent."""
        raise NotImplementedError

    def draft(self, message: Draft) -> list[Action]:
        """The device sent a draft for this request."""
        raise OutOfTurn(f"the device sent Draft, which no server waits for in {self.request.method}")


def check_counts(drafted: int, accepted: int, judged: int) -> None:
    """Raises BadCounts: drafts are judged in order up to the first rejected, so at most one judged is not accepted."""
    if not accepted <= judged <= min(drafted, accepted + 1):
        raise BadCounts(f"the server accepts {accepted} of {drafted} drafts, judged {judged}: the counts do not fit")
