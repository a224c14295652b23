"""Making trials in a live world, one after the other, whatever becomes of each.

What a trial raises is its failure, and the next is made; if the connection may be gone, in a world entered anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aiflow_cli.errors import AiflowError, LinkError, ProtocolError
from aiflow_cli.trials.schedule import Planned
from aiflow_cli.world.live import LiveWorld
from aiflow_cli.world.record import Setting, Trial, now

FAILURES = 3
"""So many in a row, with nothing made between, are no matter of single trials."""


@dataclass(frozen=True)
class Failure:
    """A trial that was not made, as run.json has it under `failed`."""

    trial: str
    setting: str
    pair: str
    image_id: str
    error: str
    at: str

    @property
    def line(self) -> str:
        """For people."""
        return f"failed: {self.setting} of {self.pair} on image {self.image_id} ({self.trial}): {self.error}"


Made = list[Trial | Failure]
World = contextlib.AbstractContextManager[LiveWorld, bool | None]


class Maker(contextlib.ExitStack):
    """Enters its world when a trial is to be made and none is there, and makes the warm-ups then. A context manager.

    `warm` gives the warm-ups of the n-th time. A setting whose warm-up failed has none the next time: else it would
    hold up the others for ever.
    """

    def __init__(self, world: Callable[[], World], warm: Callable[[int], list[Planned]]) -> None:
        super().__init__()
        self._new_world, self._warm = world, warm
        self._world: LiveWorld | None = None
        self._times = self._in_a_row = 0
        self._cold: set[Setting] = set()

    def make(self, planned: Planned) -> Iterator[Trial | Failure]:
        """The trial, or its failure; before it the warm-ups of a new world. Raises what entering one raises, and what
        the last of several failures in a row raised.
        """
        while self._world is None:
            self._world = world = self.enter_context(self._new_world())
            warm, self._times = self._warm(self._times), self._times + 1
            for one in warm:
                if self._world is world and one.trial.setting not in self._cold:  # else it broke
                    made = self._attempt(world, one)
                    if isinstance(made, Trial):
                        yield made
                    else:
                        self._cold.add(one.trial.setting)
        yield self._attempt(self._world, planned)

    def _attempt(self, world: LiveWorld, planned: Planned) -> Trial | Failure:
        try:
            made = world.trial(*planned)
        except AiflowError as error:
            self._in_a_row += 1
            if self._in_a_row == FAILURES:
                raise
            if isinstance(error, LinkError | ProtocolError):
                self._world = None
                self.close()
            wanted, setting = planned.trial, planned.trial.setting
            return Failure(wanted.trial, setting.label, setting.pair, wanted.image_id, str(error), now())
        self._in_a_row = 0
        return made
