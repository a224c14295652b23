"""The device's side of one response, as a state machine without I/O: `handle(event) -> actions`.

All four methods are here: who drafts and who waits for what differs, delivery and stopping do not.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiflow_cli.decoding.acceptance import Judgement
from aiflow_cli.decoding.actions import Action, Deliver, Finish, PrefillDraft, Send
from aiflow_cli.decoding.events import Drafted, Event, Prefilled, Received, Started
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.state import BadTokens, OutOfTurn, Output, StaleMessage
from aiflow_cli.errors import LinkError, ProtocolError
from aiflow_cli.wire.messages import Draft, Refused, Request, Tokens, Verdict, pack_ids, unpack_ids


@dataclass(frozen=True)
class Task:
    """One response to make. `gamma` is 0 for methods without drafts; `image` is the encoded picture; `exact_margin` see `decoding/exact.py`."""

    request_id: int
    method: Method
    gamma: int
    max_new_tokens: int
    prompt: str
    image: bytes
    exact_margin: float = 0.0


@dataclass
class Round:
    """What the core knows of a round; times are the driver's to add."""

    drafted: int
    judged: int
    accepted: int
    delivered: int
    draft_us: int = 0
    queue_us: int = 0
    verify_us: int = 0
    redecide_steps: int = 0
    redecide_us: int = 0


class DeviceSession:
    """Drives one response from Started to Finish. Raises a ProtocolError for whatever the peer must not do, a LinkError if it gives up;
    closed after that."""

    def __init__(self, task: Task, stop_ids: frozenset[int], vocab_size: int) -> None:
        self.task = task
        self.output = Output(task.max_new_tokens, stop_ids, vocab_size)
        self.rounds: list[Round] = []
        self.prefill_queue_us = 0
        self.prefill_us = 0
        self.prefill_draft_us = 0
        self.step_us: list[int] = []
        self._started = False
        self._draft_ready = False
        self._first_arrived = False
        self._drafted: tuple[int, ...] | None = None
        self._drafting = False
        self._closed = False

    @property
    def finished(self) -> bool:
        """Whether the response is complete."""
        return self.output.done

    def handle(self, event: Event) -> list[Action]:
        """What to do about an event, in order."""
        if self._closed:
            raise OutOfTurn("the session has ended: nothing more is expected")
        try:
            return self._handle(event)
        except (ProtocolError, LinkError):
            self._closed = True
            raise

    def _handle(self, event: Event) -> list[Action]:
        match event:
            case Started() if not self._started:
                return self._start()
            case Started():
                raise OutOfTurn("the response has begun already")
            case _ if not self._started:
                raise OutOfTurn(f"{type(event).__name__} although the response has not begun")
            case Prefilled():
                return self._draft_prefilled(event)
            case Drafted():
                return self._drafts_made(event)
            case Received(message=Tokens() as tokens):
                return self._tokens(tokens)
            case Received(message=Verdict() as verdict):
                return self._verdict(verdict)
            case Received(message=Refused(reason=reason)):
                raise LinkError(f"the server gave up: {reason}")
            case Received(message=message):
                raise OutOfTurn(f"the server sent {type(message).__name__}, which no device waits for")
            case _:
                raise OutOfTurn(f"{type(event).__name__} is no event of a device")

    def _start(self) -> list[Action]:
        self._started = True
        task = self.task
        prefill = PrefillDraft(task.image, task.prompt, task.max_new_tokens)
        if task.method is Method.ON_DEVICE:
            return [prefill]
        request = Request(
            task.request_id,
            task.method.value,
            task.gamma,
            task.max_new_tokens,
            task.prompt,
            task.image,
            task.exact_margin,
        )
        return [Send(request), *([prefill] if task.method is Method.SPECULATIVE else [])]

    def _draft_prefilled(self, event: Prefilled) -> list[Action]:
        if self._draft_ready or self.task.method not in (Method.SPECULATIVE, Method.ON_DEVICE):
            raise OutOfTurn("the draft model was prefilled although no one asked")
        self._draft_ready = True
        if self.task.method is Method.ON_DEVICE:
            return self._deliver((event.token,), self._next_on_device)
        return self._next_round() if self._first_arrived else []

    def _tokens(self, message: Tokens) -> list[Action]:
        speculative = self.task.method is Method.SPECULATIVE
        if self.task.method is Method.ON_DEVICE or (speculative and self._first_arrived):
            raise OutOfTurn("the server sent tokens that were not asked for")
        ids = _unpacked(message.ids)
        if not self._first_arrived:
            self._first_arrived = True
            self.prefill_queue_us, self.prefill_us = message.queue_us, message.compute_us
            self.prefill_draft_us = message.draft_us
        elif self.task.method is Method.CO_LOCATED:
            if not message.accepted <= len(ids) <= message.accepted + 1:
                raise BadTokens(f"{message.accepted} drafts accepted, {len(ids)} tokens: the counts do not fit")
            _check_counts(message.drafted, message.judged, message.accepted)
            self.rounds.append(
                Round(
                    message.drafted,
                    message.judged,
                    message.accepted,
                    len(ids),
                    message.draft_us,
                    message.queue_us,
                    message.compute_us,
                    message.redecide_steps,
                    message.redecide_us,
                )
            )
        else:
            self.step_us.append(message.compute_us)
        actions = self._deliver(ids, self._next_round if speculative and self._draft_ready else None)
        self._check_done(message.done)
        return actions

    def _next_round(self) -> list[Action]:
        self._drafting = True
        action = self.output.draft_action(self.task.gamma)
        return [action] if action.count else self._drafts_made(Drafted(()))

    def _next_on_device(self) -> list[Action]:
        self._drafting = True
        output = self.output
        action = output.draft_action(self.task.max_new_tokens)
        return [type(action)(action.keep, action.feed, 1, action.stop_ids)]

    def _drafts_made(self, event: Drafted) -> list[Action]:
        if not self._drafting:
            raise OutOfTurn("tokens were drafted although no one asked")
        self._drafting = False
        if self.task.method is Method.ON_DEVICE:
            self.step_us.append(event.compute_us)
            self.output.draft_cached = len(self.output.tokens)
            return self._deliver(event.tokens, self._next_on_device)
        self.output.check_draft(event.tokens, self.task.gamma)
        self._drafted = event.tokens
        self.rounds.append(Round(len(event.tokens), 0, 0, 0, event.compute_us))
        return [Send(Draft(len(self.rounds) - 1, len(self.output.tokens), pack_ids(event.tokens)))]

    def _verdict(self, message: Verdict) -> list[Action]:
        if self._drafted is None:
            raise OutOfTurn("the server sent a verdict although no draft is out")
        if message.round != len(self.rounds) - 1:
            raise StaleMessage(f"the server answers round {message.round}, the current one is {len(self.rounds) - 1}")
        _check_counts(len(self._drafted), message.judged, message.accepted)
        drafted, self._drafted = self._drafted, None
        delivered = self.output.apply(Judgement(message.accepted, message.token, message.done), drafted)
        if message.token is None and not self.output.stopped:
            raise BadTokens("the server ends a round without a token of its own, and without an accepted end")
        current = self.rounds[-1]
        current.judged, current.accepted, current.delivered = message.judged, message.accepted, len(delivered)
        current.queue_us, current.verify_us = message.queue_us, message.verify_us
        current.redecide_steps, current.redecide_us = message.redecide_steps, message.redecide_us
        self._check_done(message.done)
        return [Deliver(delivered), *(self._finish() if self.output.done else self._next_round())]

    def _deliver(self, tokens: tuple[int, ...], then: object) -> list[Action]:
        self.output.commit(tokens)
        actions: list[Action] = [Deliver(tokens)]
        if self.output.done:
            return actions + self._finish()
        return actions + (then() if callable(then) else [])

    def _check_done(self, done: bool) -> None:
        if done != self.output.done:
            raise BadTokens(
                f"the server says that the output is {'' if done else 'not '}done, by its tokens it is {'not ' if done else ''}"
            )

    def _finish(self) -> list[Action]:
        self._closed = True
        return [Finish(self.output.stopped)]


def _check_counts(drafted: int, judged: int, accepted: int) -> None:
    """Drafts are judged one after another until the first that is rejected, so at most one judged draft is not accepted."""
    if not accepted <= judged <= min(drafted, accepted + 1):
        raise BadTokens(
            f"the server accepts {accepted} of {drafted} drafts, of which it judged {judged}: the counts do not fit"
        )


def _unpacked(packed: bytes) -> tuple[int, ...]:
    try:
        return unpack_ids(packed)
    except ValueError as error:
        raise BadTokens(str(error)) from None
