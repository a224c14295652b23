"""Server-only: the target makes every token by a single step; the paper's baseline."""

from __future__ import annotations

from aiflow_cli.decoding.acceptance import Outcome
from aiflow_cli.decoding.actions import Action, Send
from aiflow_cli.decoding.halves import DeviceHalf, ServerHalf
from aiflow_cli.decoding.state import Output, Turns
from aiflow_cli.decoding.tree import Tree
from aiflow_cli.decoding.verification import Verifier
from aiflow_cli.wire.messages import Request, Verification

NOTHING = Tree.chain(())


class Device(DeviceHalf):
    """Delivers what comes."""


class Server(ServerHalf):
    """Verifies nothing, again and again: the target's own token is all that a round adds."""

    needs_gamma = False

    def __init__(self, request: Request, output: Output, turns: Turns) -> None:
        super().__init__(request, output, turns)
        self._verifier = Verifier(output, turns, bound=0.0)

    def next(self) -> list[Action]:
        """A single step."""
        return self._verifier.verify(NOTHING, self._stepped)

    def _stepped(self, found: Outcome, cost: Verification) -> list[Action]:
        return [Send(self.told(found.tokens, cost.queue_us, cost.verify_us)), *self.onward()]
