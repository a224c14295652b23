"""Verification of a draft by the target: one pass, and where its margins decide nothing, single steps
(`decoding/exact.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiflow_cli.decoding.acceptance import Outcome, accept, outcome
from aiflow_cli.decoding.actions import Action, Extend
from aiflow_cli.decoding.events import Extended
from aiflow_cli.decoding.exact import first_undecided
from aiflow_cli.decoding.state import Output, Turns
from aiflow_cli.decoding.tree import Tree
from aiflow_cli.wire.messages import Verification

Then = Callable[[Outcome, Verification], list[Action]]


@dataclass(frozen=True)
class _Pass:
    """A pass whose choice after `node` is undecided."""

    tree: Tree
    node: int
    event: Extended
    then: Then


class Verifier:
    """Verifies drafts that follow the output, one at a time. The target's cache holds all of the output but its last
    token.

    `bound`: choices with a smaller margin are decided again; 0 if none are.
    """

    def __init__(self, output: Output, turns: Turns, bound: float) -> None:
        self._output, self._turns, self._bound = output, turns, bound
        self._clean = len(output.tokens)
        """Tokens of the output that the cache holds as server-only would have them: by single steps from the prompt."""

    def verify(self, tree: Tree, then: Then) -> list[Action]:
        """Verify and commit; `then` gets the outcome and what it took."""
        committed = self._output.tokens
        work = Extend(keep=len(committed) - 1, tokens=(committed[-1], *tree.tokens), margins=self._bound > 0)
        return [self._turns.ask(work, lambda event: self._passed(tree, event, then))]

    def _passed(self, tree: Tree, event: Extended, then: Then) -> list[Action]:
        output = self._output
        if not tree.tokens and self._clean == len(output.tokens) - 1:
            self._clean += 1  # a single step on a clean cache is server-only's own
        elif self._bound:
            node = first_undecided(tree, event.predictions, event.margins, output.stop_ids, self._bound)
            if node is not None:
                return self._again(_Pass(tree, node, event, then))
        found = accept(tree, event.predictions, output.stop_ids, output.room)
        return self._settle(found, then, event.queue_us, event.compute_us)

    def _again(self, undecided: _Pass) -> list[Action]:
        """Single steps from where the cache is clean: over the output since, and the drafts up to the undecided
        node.
        """
        steps = (*self._output.tokens[self._clean :], *undecided.tree.tokens_to(undecided.node))
        work = Extend(keep=self._clean, tokens=steps, singly=True)
        return [self._turns.ask(work, lambda event: self._stepped(undecided, event))]

    def _stepped(self, undecided: _Pass, event: Extended) -> list[Action]:
        """The drafts before the undecided node stand as the steps say, and its own choice; those behind it are dropped
        unjudged.
        """
        path = undecided.tree.path(undecided.node)
        chain = Tree.chain(undecided.tree.tokens_to(undecided.node))
        steps = len(event.predictions)
        self._clean += steps
        predictions = event.predictions[-len(path) - 1 :]
        on_chain = accept(chain, predictions, self._output.stop_ids, self._output.room)
        found = outcome(undecided.tree, (0, *path)[on_chain.node], on_chain.token, on_chain.done, on_chain.judged)
        queue_us = undecided.event.queue_us + event.queue_us
        compute_us = undecided.event.compute_us + event.compute_us
        return self._settle(found, undecided.then, queue_us, compute_us, steps, event.compute_us)

    def _settle(
        self,
        found: Outcome,
        then: Then,
        queue_us: int,
        verify_us: int,
        redecide_steps: int = 0,
        redecide_us: int = 0,
    ) -> list[Action]:
        self._output.commit(found.tokens)
        self._clean = min(
            self._clean, len(self._output.tokens) - 1
        )  # rejected drafts leave the cache with the next pass
        return then(found, Verification(found.judged, queue_us, verify_us, redecide_steps, redecide_us))
