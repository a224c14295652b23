"""On-device: the draft model alone, without a server and with another output."""

from __future__ import annotations

from aiflow_cli.decoding.actions import Action, Deliver, DraftTokens
from aiflow_cli.decoding.halves import DeviceHalf, prefill
from aiflow_cli.decoding.state import OutOfTurn
from aiflow_cli.wire.messages import Answer


class Device(DeviceHalf):
    """Makes every token by a single step of the draft model."""

    def start(self) -> list[Action]:
        """Prefill; nothing is sent."""
        return [self.turns.ask(prefill("draft", self.task), lambda event: self._next((event.token,)))]

    def _next(self, tokens: tuple[int, ...]) -> list[Action]:
        """Deliver, and make a step unless the output is complete. The cache holds all but the last token."""
        output = self.output
        output.commit(tokens)
        if output.done:
            return [Deliver(tokens)]
        cached = len(output.tokens) - 1
        step = DraftTokens(keep=cached, feed=(output.tokens[-1],), count=1, stop_ids=output.stop_ids)
        return [Deliver(tokens), self.turns.ask(step, lambda event: self._next(event.tokens))]

    def answer(self, message: Answer) -> list[Action]:
        """There is no server to say anything."""
        raise OutOfTurn(f"a server sent {type(message).__name__}, though this device works alone")
