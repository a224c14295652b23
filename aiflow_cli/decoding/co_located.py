"""Co-located: both models on the server; the link carries the input and the output."""

from __future__ import annotations

from functools import partial

import msgspec

from aiflow_cli.decoding.acceptance import Outcome
from aiflow_cli.decoding.actions import Action, Send
from aiflow_cli.decoding.drafting import Drafter
from aiflow_cli.decoding.events import Prefilled
from aiflow_cli.decoding.halves import DeviceHalf, ServerHalf, check_counts, prefill
from aiflow_cli.decoding.state import BadCounts, Output, Turns
from aiflow_cli.decoding.tree import Tree
from aiflow_cli.decoding.verification import Verifier
from aiflow_cli.wire.messages import TOKEN_BYTES, Answer, Request, Round, Tokens, Verification, pack_ids


class Device(DeviceHalf):
    """Delivers what comes; a round tells of itself."""

    def answer(self, message: Answer) -> list[Action]:
        """The first token, then rounds."""
        if not isinstance(message, Round):
            return super().answer(message)
        check_counts(message.drafted, message.accepted, message.verification.judged)
        n_tokens = len(message.ids) // TOKEN_BYTES
        if not message.accepted <= n_tokens <= message.accepted + 1:
            raise BadCounts(f"{message.accepted} drafts accepted, {n_tokens} tokens: the counts do not fit")
        return self.arrived(message.base, message.ids, message.done)


class Server(ServerHalf):
    """Drafts and verifies in turns."""

    drafts = True

    def __init__(self, request: Request, output: Output, turns: Turns) -> None:
        super().__init__(request, output, turns)
        self._drafter = Drafter(output, turns, request.gamma)
        self._verifier = Verifier(output, turns, request.exact_margin)

    def first(self, message: Tokens) -> list[Action]:
        """The draft model is prefilled before the first token is sent: it belongs to TTFT, as on the device."""
        if self.output.done:
            return [Send(message)]

        def prefilled(event: Prefilled) -> list[Action]:
            whole = msgspec.structs.replace(
                message, queue_us=message.queue_us + event.queue_us, draft_us=event.compute_us
            )
            return [Send(whole), *self.next()]

        return [self.turns.ask(prefill("draft", self.request), prefilled)]

    def next(self) -> list[Action]:
        """A round."""
        return self._drafter.draft(self._drafted)

    def _drafted(self, tree: Tree, draft_us: int) -> list[Action]:
        return self._verifier.verify(tree, partial(self._verified, tree, draft_us))

    def _verified(self, tree: Tree, draft_us: int, found: Outcome, cost: Verification) -> list[Action]:
        self._drafter.settle(tree, found)
        told = Round(
            self.request.request_id,
            len(self.output.tokens) - len(found.tokens),
            pack_ids(found.tokens),
            found.done,
            len(tree.tokens),
            found.accepted,
            draft_us,
            cost,
        )
        return [Send(told), *self.onward()]
