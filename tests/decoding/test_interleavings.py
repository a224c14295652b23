"""Whatever order things come in, however late or often, and whatever was given up before: the output is the target's
own.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_cli.decoding.acceptance import outcome
from aiflow_cli.decoding.actions import Deliver, Finish, Send, Work
from aiflow_cli.decoding.events import Received
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.decoding.tree import Tree
from aiflow_cli.node.perform import perform
from aiflow_cli.wire.messages import Draft, Message, Request, Tokens, Verdict, pack_ids, unpack_ids
from tests.decoding.models import Behaviour, CachedModel, greedy
from tests.decoding.strategies import behaviours, gamma_of, gammas, lengths, methods, seeds
from tests.decoding.world import PASS_S, PICTURE, QUEUE_US, World

echoes = st.sampled_from([0.1, 0.5, 1.0])


def expected(behaviour: Behaviour, method: Method, limit: int) -> list[int]:
    author = behaviour.draft if method is Method.ON_DEVICE else behaviour.target
    return greedy(author, behaviour.stop_ids, limit)


@settings(max_examples=250)
@given(behaviours(), st.lists(st.tuples(methods, gammas, lengths), min_size=1, max_size=4), seeds, echoes)
def test_messages_that_come_twice_and_late(
    behaviour: Behaviour, responses: list[tuple[Method, int, int]], seed: int, echo: float
) -> None:
    """Also in the responses after theirs."""
    world = World(behaviour, seed, echo=echo)
    for method, gamma, limit in responses:
        world.begin(method, gamma_of(method, gamma), limit)
        world.run()
        assert world.delivered == expected(behaviour, method, limit)
        assert world.trial().n_tokens == len(world.delivered)


@settings(max_examples=250)
@given(behaviours(), methods, gammas, lengths, seeds, st.integers(0, 60), st.sampled_from([0.0, 0.5]))
def test_a_response_that_is_given_up_leaves_nothing_behind(
    behaviour: Behaviour, method: Method, gamma: int, limit: int, seed: int, steps: int, echo: float
) -> None:
    """Work under way, messages on their way: all of it comes late, and is dropped."""
    world = World(behaviour, seed, echo=echo)
    world.begin(method, gamma_of(method, gamma), limit)
    world.run(steps)
    if not world.device.finished:
        world.cancel()
    for following in (Method.SPECULATIVE, Method.CO_LOCATED, Method.SERVER_ONLY):
        world.begin(following, gamma_of(following, gamma), limit)
        world.run()
        assert world.delivered == expected(behaviour, following, limit)


@settings(max_examples=250)
@given(behaviours(), methods, gammas, st.integers(2, 60), seeds, st.data())
def test_a_response_goes_on_where_another_server_stopped(
    behaviour: Behaviour, method: Method, gamma: int, limit: int, seed: int, data: st.DataObject
) -> None:
    """What comes before its next token is a prefill, and one piece of work over what was there: both are told."""
    whole = expected(behaviour, method, limit)
    had = tuple(whole[: data.draw(st.integers(0, len(whole) - 1))])
    if method is Method.ON_DEVICE:
        had = ()
    world = World(behaviour, seed)
    session = world.begin(method, gamma_of(method, gamma), limit, had)
    world.run()
    assert world.delivered == whole[len(had) :]
    assert session.output.tokens == whole
    if method in (Method.SERVER_ONLY, Method.SPECULATIVE):
        told, pieces = world.trial().prefill, 1 + bool(had)
        assert (told.queue_s, told.server_s) == pytest.approx((pieces * QUEUE_US / 1e6, pieces * PASS_S))


@dataclass
class Streamer:
    """A device that does not wait: it drafts on behind drafts that are out, on the guess that all of them will be
    accepted.
    """

    behaviour: Behaviour
    gamma: int
    limit: int
    output: list[int] = field(default_factory=list)
    epoch: int = 0
    out: deque[tuple[int, Tree]] = field(default_factory=deque)
    """Drafts without a verdict: how many tokens they follow."""

    def guess(self) -> list[int]:
        """The output as it will be if all goes well."""
        text = list(self.output)
        for base, tree in self.out:
            text[base:] = tree.tokens if base + len(tree.tokens) > len(text) else text[base:]
        return text

    def draft(self) -> Draft | None:
        """The next draft; None when the output is likely to end before it."""
        text = self.guess()
        room = self.limit - len(text) - 1
        if room < 0 or not self.output or text[-1] in self.behaviour.stop_ids:
            return None
        base = len(text)
        tokens: list[int] = []
        while len(tokens) < min(self.gamma, room) and not (tokens and tokens[-1] in self.behaviour.stop_ids):
            tokens.append(self.behaviour.draft((*text, *tokens)))
        if not tokens and self.out:
            return None
        self.out.append((base, Tree.chain(tokens)))
        return Draft(1, self.epoch, base, pack_ids(tokens))

    def hear(self, message: Message) -> None:
        """Apply an answer of the server, and drop what it makes void."""
        if isinstance(message, Tokens):
            self.output += unpack_ids(message.ids)
            return
        assert isinstance(message, Verdict)
        base, tree = self.out.popleft()
        assert (message.epoch, message.base) == (self.epoch, base), "drafts are answered in order"
        found = outcome(tree, message.node, message.token, message.done)
        self.output[base:] = found.tokens
        if found.left:
            self.leave()
        while self.out and not self.holds(*self.out[0]):
            pass

    def holds(self, base: int, tree: Tree) -> bool:
        """Whether the first draft that is out goes on from the output; it is dropped if it is output, all are if it is
        another.
        """
        node = 0
        for token in self.output[base:]:
            if tree.ends_at(node):
                self.out.popleft()
                return False
            following = tree.child(node, token)
            if following is None:
                self.leave()
                return False
            node = following
        return True

    def leave(self) -> None:
        self.epoch += 1
        self.out.clear()


@settings(max_examples=300)
@given(behaviours(), st.integers(1, 8), lengths, seeds, st.integers(1, 6), st.booleans())
def test_several_drafts_in_flight(
    behaviour: Behaviour, gamma: int, limit: int, seed: int, most: int, echo: bool
) -> None:
    """Between a device that streams drafts and the server's half of speculative: answers in order, nothing lost, the
    target's own output.
    """
    rng = random.Random(seed)
    server = ServerSession(behaviour.stop_ids, behaviour.vocab_size, can_draft=False)
    models = {"target": CachedModel(behaviour.target)}
    device = Streamer(behaviour, gamma, limit)
    up: deque[Message] = deque([Request(1, "speculative", gamma, limit, "", PICTURE)])
    down: deque[Message] = deque()
    work: list[Work] = []
    for _ in range(40 * limit + 200):
        may = [name for name, queue in (("up", up), ("down", down), ("work", work)) if queue]
        done = bool(device.output) and (device.output[-1] in behaviour.stop_ids or len(device.output) == limit)
        if done:
            break
        if len(device.out) < most and (not may or rng.random() < 0.5) and (message := device.draft()) is not None:
            up += [message] * (2 if echo and rng.random() < 0.3 else 1)
            continue
        if not may:
            break
        match rng.choice(may):
            case "down":
                device.hear(down.popleft())
                continue
            case "up":
                actions = server.handle(Received(up.popleft()))
            case _:
                actions = server.handle(perform(work.pop(), models))
        for action in actions:
            if isinstance(action, Send):
                down.append(action.message)
            elif not isinstance(action, Finish | Deliver):
                work.append(action)
    assert device.output == greedy(behaviour.target, behaviour.stop_ids, limit)
