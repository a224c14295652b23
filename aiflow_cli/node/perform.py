"""The one interpreter of work: what a session asks for, done by models, and answered as an event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from time import perf_counter
from typing import Protocol

from aiflow_cli.decoding.actions import DraftTokens, Extend, Prefill, Work
from aiflow_cli.decoding.events import Drafted, Extended, Prefilled, WorkDone


class Model(Protocol):
    """A model with one cache over it, as `node/compute.py` has it."""

    def prefill(self, work: Prefill) -> int:
        """Start anew with input and prompt; the most likely first token."""

    def extend(self, work: Extend) -> tuple[int, ...]:
        """Append tokens; the most likely token after each."""

    def margins(self) -> tuple[float, ...]:
        """The gap between the two best logits, for every token of the last pass."""

    def draft(self, work: DraftTokens) -> Iterator[int]:
        """Drafted tokens, one a pass."""


Models = Mapping[str, Model]
"""What a side has to work with: its "target", its "draft", or both."""


def perform(
    work: Work,
    models: Models,
    queue_us: int = 0,
    clock: Callable[[], float] = perf_counter,
    wanted: Callable[[], bool] = lambda: True,
) -> WorkDone:
    """Do a piece of work that has waited for `queue_us`. Raises what models raise.

    After each drafted token `wanted` may look at other things; where it says no, what is drafted by then is the answer.
    """
    begun_s = clock()

    def spent_us() -> int:
        return round((clock() - begun_s) * 1e6)

    match work:
        case Prefill():
            token = models[work.model].prefill(work)
            return Prefilled(work.ticket, token, spent_us(), queue_us)
        case Extend():
            target = models["target"]
            predictions = target.extend(work)
            margins = target.margins() if work.margins else ()
            return Extended(work.ticket, predictions, margins, spent_us(), queue_us)
        case DraftTokens():
            drafted = []
            for token in models["draft"].draft(work):
                drafted.append(token)
                if not wanted():
                    break
            return Drafted(work.ticket, tuple(drafted), spent_us(), queue_us)
