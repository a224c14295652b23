"""Verification of a draft by the target: one pass, and single steps where its margins decide nothing."""

from __future__ import annotations

from collections.abc import Callable

from aiflow_cli.decoding.acceptance import Outcome, accept, outcome
from aiflow_cli.decoding.actions import Action, Extend
from aiflow_cli.decoding.events import Extended
from aiflow_cli.decoding.exact import first_undecided
from aiflow_cli.decoding.state import Output, Turns
from aiflow_cli.decoding.tree import Tree
from aiflow_cli.wire.messages import Verification

Then = Callable[[Outcome, Verification], list[Action]]


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
                return self._again(tree, node, event, then)
        found = accept(tree, event.predictions, output.stop_ids, output.room)
        return self._settle(found, Verification(found.judged, event.queue_us, event.compute_us), then)

    def _again(self, tree: Tree, node: int, passed: Extended, then: Then) -> list[Action]:
        """Single steps from where the cache is clean: over the output since, and the drafts up to the undecided node.

        These drafts stand as the steps say, and so does the choice after them; those behind are dropped unjudged.
        """
        path, chain = tree.path(node), Tree.chain(tree.tokens_to(node))
        work = Extend(keep=self._clean, tokens=(*self._output.tokens[self._clean :], *chain.tokens), singly=True)

        def stepped(event: Extended) -> list[Action]:
            steps = len(event.predictions)
            self._clean += steps
            predictions = event.predictions[-len(path) - 1 :]
            on_chain = accept(chain, predictions, self._output.stop_ids, self._output.room)
            found = outcome(tree, (0, *path)[on_chain.node], on_chain.token, on_chain.done, on_chain.judged)
            queue_us, verify_us = passed.queue_us + event.queue_us, passed.compute_us + event.compute_us
            return self._settle(found, Verification(found.judged, queue_us, verify_us, steps, event.compute_us), then)

        return [self._turns.ask(work, stepped)]

    def _settle(self, found: Outcome, cost: Verification, then: Then) -> list[Action]:
        self._output.commit(found.tokens)
        self._clean = min(self._clean, len(self._output.tokens) - 1)  # rejected drafts leave with the next pass
        return then(found, cost)
