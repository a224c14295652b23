"""Speculative: the device drafts gamma tokens, the server verifies them in one pass, and each waits for the other: the
paper's method.

The server's half takes drafts as they come, also several at once: those of an epoch that has passed are dropped unread,
and of one that begins before the end of the output what is committed already is passed over.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import NamedTuple

from aiflow_cli.decoding.acceptance import Outcome, draft_length, outcome
from aiflow_cli.decoding.actions import Action, Send
from aiflow_cli.decoding.drafting import Drafter
from aiflow_cli.decoding.events import Prefilled
from aiflow_cli.decoding.halves import DeviceHalf, ServerHalf, Task, check_counts, prefill
from aiflow_cli.decoding.state import BadCounts, BadTokens, OutOfTurn, Output, Turns
from aiflow_cli.decoding.tree import Branch, Tree
from aiflow_cli.decoding.verification import Verifier
from aiflow_cli.wire.messages import Answer, Draft, Request, Verdict, Verification, pack_ids

MOST_WAITING = 16
"""Drafts of one device that wait for their verification."""


class Device(DeviceHalf):
    """Drafts after the output, sends the draft, waits for the verdict."""

    def __init__(self, task: Task, output: Output, turns: Turns) -> None:
        super().__init__(task, output, turns)
        self._drafter = Drafter(output, turns, task.gamma)
        self._prefilled = self._begun = False
        self._epoch = 0
        self._base = 0
        self._out: Tree | None = None
        """The draft that is verified, which follows `_base` tokens."""

    def start(self) -> list[Action]:
        """The draft model is prefilled while the input is on its way."""
        work = prefill("draft", self.task)
        return [*super().start(), self.turns.ask(work, self._ready)]

    def _ready(self, _event: Prefilled) -> list[Action]:
        self._prefilled = True
        return self._next()

    def answer(self, message: Answer) -> list[Action]:
        """The first token, then verdicts."""
        if isinstance(message, Verdict):
            return self._verdict(message)
        if self._begun and message.base >= len(self.output.tokens):
            raise OutOfTurn("the server sent tokens that were not asked for")
        delivered = super().answer(message)
        self._begun = True
        return delivered + (self._next() if delivered else [])

    def _next(self) -> list[Action]:
        if not (self._prefilled and self._begun) or self.output.done:
            return []
        return self._drafter.draft(self._drafted)

    def _drafted(self, tree: Tree, _draft_us: int) -> list[Action]:
        self._out, self._base = tree, len(self.output.tokens)
        return [Send(Draft(self.task.request_id, self._epoch, self._base, pack_ids(tree.tokens)))]

    def _verdict(self, message: Verdict) -> list[Action]:
        if message.base < len(self.output.tokens):
            return []  # on a draft that has been settled
        if self._out is None or (message.epoch, message.base) != (self._epoch, self._base):
            about = f"a draft of epoch {message.epoch} after {message.base} tokens"
            raise OutOfTurn(f"the server sent a verdict on {about}: none is out")
        tree, self._out = self._out, None
        found = self._checked(tree, message)
        delivered = self.deliver(found.tokens, message.done)
        self._drafter.settle(tree, found)
        self._epoch += found.left
        return delivered + self._next()

    def _checked(self, tree: Tree, message: Verdict) -> Outcome:
        if message.node > len(tree.tokens):
            raise BadCounts(f"the server accepts node {message.node} of a draft of {len(tree.tokens)}")
        found = outcome(tree, message.node, message.token, message.done)
        check_counts(len(tree.tokens), found.accepted, message.verification.judged)
        if message.token is None and not (found.tokens and found.tokens[-1] in self.output.stop_ids):
            raise BadTokens("the server ends a round without a token of its own, and without an accepted end")
        return found


class _Waiting(NamedTuple):
    """A draft of the current epoch, which follows `base` tokens."""

    base: int
    tree: Tree


class Server(ServerHalf):
    """Verifies drafts, one at a time, in the order in which they came."""

    def __init__(self, request: Request, output: Output, turns: Turns) -> None:
        super().__init__(request, output, turns)
        self._verifier = Verifier(output, turns, request.exact_margin)
        self._epoch = 0
        self._waiting: deque[_Waiting] = deque()
        self._idle = False
        """Whether the first token is out and nothing is verified."""

    def next(self) -> list[Action]:
        """Whatever waits."""
        self._idle = True
        return self._verify_next()

    def draft(self, message: Draft) -> list[Action]:
        """Take a draft. Raises ProtocolError for one that cannot be."""
        if message.epoch < self._epoch:
            return []
        if message.epoch > self._epoch:
            raise OutOfTurn(f"the device drafts in epoch {message.epoch}, the output is in epoch {self._epoch}")
        if len(self._waiting) == MOST_WAITING:
            raise BadCounts(f"more than {MOST_WAITING} drafts wait: the device has to wait for verdicts")
        ids = self.output.unpack(message.ids)
        if message.parents is not None:
            raise BadCounts(f"the method {self.request.method} drafts chains: a draft with parents is none")
        self._check_length(len(ids), self.request.gamma)
        self._waiting.append(_Waiting(message.base, Tree.chain(ids)))
        return self._verify_next()

    @staticmethod
    def _check_length(drafted: int, most: int) -> None:
        if drafted > most:
            raise BadTokens(f"{drafted} drafted tokens, of which {most} may be: the peers disagree")

    def _verify_next(self) -> list[Action]:
        while self._idle and self._waiting:
            draft = self._waiting.popleft()
            if (branch := self._fresh(draft)) is not None:
                self._idle = False
                return self._verifier.verify(branch.tree, partial(self._verified, draft.base, branch))
        return []

    def _fresh(self, draft: _Waiting) -> Branch | None:
        """What of a draft is not committed yet; None if that is nothing, or the output is another."""
        node = 0
        for token in self.output.tokens[draft.base :]:
            if draft.tree.ends_at(node):
                return None
            if (following := draft.tree.child(node, token)) is None:
                self._leave()
                return None
            node = following
        if draft.base > len(self.output.tokens):
            raise OutOfTurn(f"the device drafts after {draft.base} tokens, there are {len(self.output.tokens)}")
        branch = draft.tree.below(node)
        self._check_length(len(branch.tree.tokens), draft_length(self.request.gamma, self.output.room))
        return branch

    def _leave(self) -> None:
        """The output is another than what was drafted: all drafts of this epoch are void."""
        self._epoch += 1
        self._waiting.clear()

    def _verified(self, base: int, branch: Branch, found: Outcome, cost: Verification) -> list[Action]:
        epoch = self._epoch
        if found.left:
            self._leave()
        node = branch.nodes[found.node]
        told = Verdict(self.request.request_id, epoch, base, node, found.token, found.done, cost)
        return [Send(told), *self.onward()]
