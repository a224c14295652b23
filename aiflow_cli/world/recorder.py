"""The recorder: what happens in a response and when goes in, one trial comes out. It has neither clock nor I/O.

A round of speculation begins with the delivery before it. The clock is read four more times in it (drafted, sent,
answer read, tokens delivered), so that its parts follow one another without gaps; what the server did of the time
between the last two is told by the server.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from aiflow_cli.decoding.actions import DraftTokens, Work
from aiflow_cli.decoding.events import WorkDone
from aiflow_cli.decoding.methods import Method
from aiflow_cli.wire import messages as wire
from aiflow_cli.world.record import Delivery, Prefill, Round, Trial

MICROSECONDS = 1e-6
DIGITS = 7
"""Seconds are recorded to a tenth of a microsecond."""


@dataclass(frozen=True)
class _Sent:
    """A draft that is out."""

    drafted: int
    drafted_s: float
    sent_s: float
    n_bytes: int


class Recorder:
    """Records one response: `planned` is its trial as it is known beforehand. All times are of the device's clock."""

    def __init__(self, planned: Trial) -> None:
        self._planned = planned
        self._t0_s = self._last_s = self._drafted_s = 0.0
        self._request_id: int | None = None
        self._drafts: dict[tuple[int, int], _Sent] = {}
        self._answer: wire.Answer | None = None
        """The answer that is being handled."""
        self._answer_bytes, self._read_s = 0, 0.0
        """Its size, and when it was read."""
        self._tokens: list[int] = []
        self._deliveries: list[Delivery] = []
        self._rounds: list[Round] = []
        self._steps_s: list[float] = []
        self._draft_prefill_s: float | None = None
        self._first: wire.Tokens | None = None
        self._up: Counter[str] = Counter()
        self._down: Counter[str] = Counter()
        self._stopped = False

    def begun(self, at_s: float) -> None:
        """The image's bytes are in memory: t0."""
        self._t0_s = self._last_s = at_s

    def performed(self, work: Work, _done: WorkDone, begun_s: float, done_s: float) -> None:
        """The device's draft model did a piece of work."""
        if not isinstance(work, DraftTokens):
            self._draft_prefill_s = _rounded(done_s - begun_s)
        elif self._planned.setting.method is Method.ON_DEVICE:
            self._steps_s.append(_rounded(done_s - begun_s))
        self._drafted_s = done_s

    def sent(self, message: wire.Message, n_bytes: int, at_s: float) -> None:
        """The device sent a message."""
        self._up[type(message).__name__] += n_bytes
        if isinstance(message, wire.Request):
            self._request_id = message.request_id
        if isinstance(message, wire.Draft):
            drafted_s = max(self._drafted_s, self._last_s)  # with room for one token nothing is drafted
            drafted = len(message.ids) // wire.TOKEN_BYTES
            self._drafts[message.epoch, message.base] = _Sent(drafted, drafted_s, at_s, n_bytes)

    def received(self, message: wire.Message, n_bytes: int, at_s: float) -> None:
        """The device read a message. A late answer to another request, which was given up, is no part of this trial."""
        if isinstance(message, wire.Answer):
            if message.request_id != self._request_id:
                return
            self._answer, self._answer_bytes, self._read_s = message, n_bytes, at_s
        self._down[type(message).__name__] += n_bytes

    def delivered(self, tokens: tuple[int, ...], at_s: float) -> None:
        """Output tokens are there, by the answer that was read last if a server made them."""
        match self._answer:
            case wire.Tokens() as answer if self._first is None:
                self._first = answer
            case wire.Tokens(compute_us=compute_us):
                self._steps_s.append(_rounded(compute_us * MICROSECONDS))
            case wire.Verdict() | wire.Round() as answer:
                self._rounds.append(self._round(answer, len(tokens), at_s))
        self._answer = None
        self._tokens += tokens
        self._deliveries.append(Delivery(_rounded(at_s - self._t0_s), len(tokens)))
        self._last_s = at_s

    def finished(self, stopped: bool) -> None:
        """The response is complete."""
        self._stopped = stopped

    def trial(self, caption: str) -> Trial:
        """The trial, when the response is complete."""
        return self._planned.replace(
            tokens=tuple(self._tokens),
            stopped=self._stopped,
            caption=caption,
            deliveries=tuple(self._deliveries),
            prefill=self._prefill(),
            steps_s=tuple(self._steps_s),
            rounds=tuple(self._rounds),
            bytes_up_by_message=dict(self._up),
            bytes_down_by_message=dict(self._down),
        )

    def _round(self, answer: wire.Verdict | wire.Round, delivered: int, at_s: float) -> Round:
        cost, read_s = answer.verification, self._read_s
        if isinstance(answer, wire.Verdict):
            sent, accepted = self._drafts.pop((answer.epoch, answer.base)), delivered - (answer.token is not None)
        else:  # made on the server: nothing went up, and what is neither model time nor queue is the way down
            drafted_s, accepted, read_s = self._last_s + answer.draft_us * MICROSECONDS, answer.accepted, at_s
            sent = _Sent(answer.drafted, drafted_s, drafted_s, 0)
        queue_s, verify_s = cost.queue_us * MICROSECONDS, cost.verify_us * MICROSECONDS
        return Round(
            drafted=sent.drafted,
            judged=cost.judged,
            accepted=accepted,
            delivered=delivered,
            draft_s=_rounded(sent.drafted_s - self._last_s),
            encode_s=_rounded(sent.sent_s - sent.drafted_s),
            network_s=_rounded(max(0.0, read_s - sent.sent_s - queue_s - verify_s)),
            queue_s=_rounded(queue_s),
            verify_s=_rounded(verify_s),
            apply_s=_rounded(at_s - read_s),
            wall_s=_rounded(at_s - self._last_s),
            bytes_up=sent.n_bytes,
            bytes_down=self._answer_bytes,
            redecide_steps=cost.redecide_steps,
            redecide_s=_rounded(cost.redecide_us * MICROSECONDS),
        )

    def _prefill(self) -> Prefill:
        """An upload is timed by the first answer: what TTFT holds beyond queue and prefills on the server."""
        first, co_located = self._first, self._planned.setting.method is Method.CO_LOCATED
        if first is None:
            return Prefill(draft_s=self._draft_prefill_s)
        server_s, queue_s, there_s = (us * MICROSECONDS for us in (first.compute_us, first.queue_us, first.draft_us))
        beyond_s = self._deliveries[0].at_s - queue_s - server_s - (there_s if co_located else 0.0)
        return Prefill(
            draft_s=_rounded(there_s) if co_located else self._draft_prefill_s,
            network_s=_rounded(max(0.0, beyond_s)),
            server_s=_rounded(server_s),
            queue_s=_rounded(queue_s),
        )


def _rounded(seconds: float) -> float:
    return round(seconds, DIGITS)
