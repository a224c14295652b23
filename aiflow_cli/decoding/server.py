"""The server's side of a connection, as a state machine without I/O: one request after another, `handle(event) -> actions`."""

from __future__ import annotations

from dataclasses import replace

from aiflow_cli.decoding.acceptance import judge
from aiflow_cli.decoding.actions import Action, Extend, Finish, PrefillDraft, PrefillTarget, Send
from aiflow_cli.decoding.events import Drafted, Event, Extended, Prefilled, Received
from aiflow_cli.decoding.exact import first_undecided
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.state import BadTokens, OutOfTurn, Output, StaleMessage
from aiflow_cli.errors import ProtocolError
from aiflow_cli.wire.messages import Cancel, Draft, Request, Tokens, Verdict, pack_ids, unpack_ids

SERVED = {method.value: method for method in (Method.SERVER_ONLY, Method.SPECULATIVE, Method.CO_LOCATED)}


class ServerSession:
    """Serves the requests of one device. Raises a ProtocolError for whatever the peer must not do; it is closed after that.

    `can_draft` says whether the server has the draft model too (co-located). The session is idle between requests; `Cancel` makes it idle.
    """

    def __init__(self, stop_ids: frozenset[int], vocab_size: int, can_draft: bool) -> None:
        self._stop_ids, self._vocab_size, self._can_draft = stop_ids, vocab_size, can_draft
        self._closed = False
        self._idle()

    def _idle(self) -> None:
        self._request: Request | None = None
        self._method = Method.SERVER_ONLY
        self._output = Output(1, self._stop_ids, self._vocab_size)
        self._waits_for: type | None = Request
        self._prefilled: Prefilled | None = None
        self._drafted: tuple[int, ...] = ()
        self._draft_us = 0
        self._round = 0
        self._clean = 0
        self._pass: Extended | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is being served."""
        return self._request is not None

    def handle(self, event: Event) -> list[Action]:
        """What to do about an event, in order."""
        if self._closed:
            raise OutOfTurn("the session has ended: nothing more is expected")
        try:
            return self._handle(event)
        except ProtocolError:
            self._closed = True
            raise

    def _handle(self, event: Event) -> list[Action]:
        match event:
            case Received(message=Cancel() as cancel):
                return self._cancel(cancel)
            case Received(message=message):
                return self._received(message)
            case Prefilled() | Extended() | Drafted():
                return self._computed(event)
            case _:
                raise OutOfTurn(f"{type(event).__name__} is no event of a server")

    def _received(self, message: object) -> list[Action]:
        if not isinstance(message, Request | Draft):
            raise OutOfTurn(f"the device sent {type(message).__name__}, which no server waits for now")
        if self._waits_for is not type(message):
            expected = "nothing" if self._waits_for is None else getattr(self._waits_for, "__name__", "nothing")
            raise OutOfTurn(f"the device sent {type(message).__name__} while {expected} is due")
        return self._start(message) if isinstance(message, Request) else self._verify(message)

    def _cancel(self, cancel: Cancel) -> list[Action]:
        if self._request is not None and cancel.request_id == self._request.request_id:
            self._idle()
        return []

    def _start(self, request: Request) -> list[Action]:
        if request.method not in SERVED:
            raise BadTokens(f"method {request.method!r} is not served: know {', '.join(SERVED)}")
        method = SERVED[request.method]
        if method is Method.CO_LOCATED and not self._can_draft:
            raise BadTokens(
                "co-located needs the draft model on the server: start it with `aiflow serve --pair PAIR --with-draft`"
            )
        if method is not Method.SERVER_ONLY and request.gamma < 1:
            raise BadTokens(f"method {request.method} needs a draft length of at least 1")
        self._request, self._method = request, method
        self._output = Output(request.max_new_tokens, self._stop_ids, self._vocab_size)
        self._waits_for = PrefillTarget
        return [PrefillTarget(request.image, request.prompt, request.max_new_tokens)]

    def _computed(self, event: Prefilled | Extended | Drafted) -> list[Action]:
        if self._request is None:
            return []  # the work of a cancelled request
        match event, self._waits_for:
            case Prefilled(), waits if waits is PrefillTarget:
                return self._target_prefilled(event)
            case Prefilled(), waits if waits is PrefillDraft:
                return self._draft_prefilled(event)
            case Drafted(), waits if waits is Drafted:
                return self._drafts_made(event)
            case Extended(), waits if waits is Extended:
                return self._extended(event)
            case _:
                raise OutOfTurn(f"{type(event).__name__} although no one asked")

    def _target_prefilled(self, event: Prefilled) -> list[Action]:
        """Co-located, the draft model is prefilled before the first token goes out: it belongs to TTFT, as where the device drafts."""
        request = self._request
        assert request is not None
        self._output.commit((event.token,))
        if self._method is not Method.CO_LOCATED or self._output.done:
            return self._first_token(event, 0)
        self._prefilled, self._waits_for = event, PrefillDraft
        return [PrefillDraft(request.image, request.prompt, request.max_new_tokens)]

    def _draft_prefilled(self, event: Prefilled) -> list[Action]:
        target = self._prefilled
        assert target is not None
        return self._first_token(replace(target, queue_us=target.queue_us + event.queue_us), event.compute_us)

    def _first_token(self, event: Prefilled, draft_us: int) -> list[Action]:
        done = self._output.done
        first = Tokens(pack_ids((event.token,)), done, event.queue_us, event.compute_us, draft_us=draft_us)
        return [Send(first), *(self._finish() if done else self._next())]

    def _draft_next(self) -> list[Action]:
        assert self._request is not None
        self._waits_for = Drafted
        action = self._output.draft_action(self._request.gamma)
        return [action] if action.count else self._drafts_made(Drafted(()))

    def _drafts_made(self, event: Drafted) -> list[Action]:
        assert self._request is not None
        self._output.check_draft(event.tokens, self._request.gamma)
        self._draft_us = event.compute_us
        return self._extend(event.tokens)

    def _verify(self, message: Draft) -> list[Action]:
        assert self._request is not None
        if (message.round, message.base) != (self._round, len(self._output.tokens)):
            raise StaleMessage(
                f"the device drafts round {message.round} after {message.base} tokens, "
                f"the server is at round {self._round} after {len(self._output.tokens)}"
            )
        try:
            drafted = unpack_ids(message.ids)
        except ValueError as error:
            raise BadTokens(str(error)) from None
        self._output.check_draft(drafted, self._request.gamma)
        return self._extend(drafted)

    def _extend(self, drafted: tuple[int, ...]) -> list[Action]:
        self._drafted, self._waits_for = drafted, Extended
        action = self._output.verify_action(drafted)
        return [replace(action, margins=True) if self._bound else action]

    @property
    def _bound(self) -> float:
        """Margins below it are decided again; 0 if none are, as for server-only, which makes single steps anyway."""
        return self._request.exact_margin if self._request and self._method is not Method.SERVER_ONLY else 0.0

    def _extended(self, event: Extended) -> list[Action]:
        if self._pass is not None:
            return self._decided_again(self._pass, event)
        committed = self._output.tokens
        if not self._drafted and self._clean == len(committed) - 1:
            self._clean += 1  # a single step on a clean cache is server-only's own
        elif self._bound:
            undecided = first_undecided(self._drafted, event.predictions, event.margins, self._stop_ids, self._bound)
            if undecided is not None:
                self._pass = event
                again = (*committed[self._clean :], *self._drafted[:undecided])
                return [Extend(self._clean, again, singly=True)]
        return self._judged(self._drafted, event)

    def _decided_again(self, verified: Extended, event: Extended) -> list[Action]:
        """The single steps of an undecided position are done: the drafts before it stand as they say, and it itself."""
        committed, steps = len(self._output.tokens), len(event.predictions)
        positions = self._clean + steps - committed + 1
        self._clean += steps
        whole = Extended(
            event.predictions[-positions:], verified.compute_us + event.compute_us, verified.queue_us + event.queue_us
        )
        return self._judged(self._drafted[: positions - 1], whole, steps, event.compute_us)

    def _judged(
        self, drafted: tuple[int, ...], event: Extended, redecide_steps: int = 0, redecide_us: int = 0
    ) -> list[Action]:
        """Answer the round; `drafted` are the drafts that were decided: the others are dropped, neither accepted nor rejected."""
        judgement = judge(drafted, event.predictions, self._stop_ids, self._output.left)
        delivered = self._output.apply(judgement, self._drafted)
        self._pass, self._clean = None, min(self._clean, len(self._output.tokens) - 1)
        if self._method is Method.SPECULATIVE:
            answer: Verdict | Tokens = Verdict(
                self._round,
                judgement.accepted,
                judgement.token,
                judgement.done,
                event.queue_us,
                event.compute_us,
                redecide_steps,
                redecide_us,
                judgement.judged(drafted),
            )
        else:
            answer = Tokens(
                pack_ids(delivered),
                judgement.done,
                event.queue_us,
                event.compute_us,
                len(self._drafted),
                judgement.accepted,
                self._draft_us,
                redecide_steps,
                redecide_us,
                judgement.judged(drafted),
            )
        self._round += 1
        return [Send(answer), *(self._finish() if judgement.done else self._next())]

    def _next(self) -> list[Action]:
        if self._method is Method.SERVER_ONLY:
            return self._extend(())
        if self._method is Method.CO_LOCATED:
            return self._draft_next()
        self._waits_for = Draft
        return []

    def _finish(self) -> list[Action]:
        stopped = self._output.stopped
        self._idle()
        return [Finish(stopped)]


__all__ = ["SERVED", "Extend", "ServerSession"]
