"""Drafting a chain after the output: what the draft model's cache holds of it, wherever that model is."""

from __future__ import annotations

from collections.abc import Callable

from aiflow_cli.decoding.acceptance import Outcome, draft_length
from aiflow_cli.decoding.actions import Action, DraftTokens
from aiflow_cli.decoding.events import Drafted
from aiflow_cli.decoding.state import BadTokens, Output, Turns
from aiflow_cli.decoding.tree import Tree


class Drafter:
    """Asks for chains of up to `gamma` tokens. The cache keeps what is valid of it and is fed what it lacks."""

    def __init__(self, output: Output, turns: Turns, gamma: int) -> None:
        self._output, self._turns, self._gamma = output, turns, gamma
        self._cached = 0
        """Tokens of the output that the draft model's cache holds."""
        self._base = 0

    def draft(self, then: Callable[[Tree, int], list[Action]]) -> list[Action]:
        """Draft; `then` gets the chain (empty with room for one token alone), and how long it took in microseconds."""
        self._base = len(self._output.tokens)
        count = draft_length(self._gamma, self._output.room)
        if not count:
            return then(Tree.chain(()), 0)
        feed = tuple(self._output.tokens[self._cached :])
        work = DraftTokens(keep=self._cached, feed=feed, count=count, stop_ids=self._output.stop_ids)

        def drafted(event: Drafted) -> list[Action]:
            if len(event.tokens) > count:
                raise BadTokens(f"{len(event.tokens)} drafted tokens, of which {count} may be")
            return then(Tree.chain(self._output.check_ids(event.tokens)), event.compute_us)

        return [self._turns.ask(work, drafted)]

    def settle(self, drafted: Tree, outcome: Outcome) -> None:
        """After a round: the cache holds what was committed before, and the accepted drafts, but never the last one."""
        if drafted.tokens:
            self._cached = self._base + min(outcome.accepted, len(drafted.tokens) - 1)
