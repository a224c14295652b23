"""Both sessions, driven by arbitrary models: what comes out is the target's own greedy output, and how it comes about
is in order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from hypothesis import given, settings

from aiflow_cli.decoding.actions import DraftTokens, Extend, Prefill, Send
from aiflow_cli.decoding.device import DeviceSession
from aiflow_cli.decoding.methods import MAX_GAMMA, Method
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.wire.messages import Draft, Tokens, Verdict, unpack_ids
from tests.decoding.models import Behaviour, greedy
from tests.decoding.strategies import behaviours, gamma_of, gammas, lengths, methods, seeds
from tests.decoding.world import World, respond

ORDER = {
    Method.SERVER_ONLY: r"Request (Tokens )+",
    Method.SPECULATIVE: r"Request Tokens (Draft Verdict )*",
    Method.CO_LOCATED: r"Request Tokens (Round )*",
    Method.ON_DEVICE: r"",
}
AGREEABLE = Behaviour(seed=3, vocab_size=50, stop_ids=frozenset(), stop_share=0.0, agreement=1.0)
STEP_S, QUEUE_S = 13e-6, 3e-6
CONTRARY = Behaviour(seed=3, vocab_size=92_553, stop_ids=frozenset(), stop_share=0.0, agreement=0.0)


def simulated(behaviour: Behaviour, method: Method, gamma: int, max_new_tokens: int, seed: int = 0) -> World:
    world = World(behaviour, seed)
    respond(world, method, gamma_of(method, gamma), max_new_tokens)
    return world


def device_of(world: World) -> DeviceSession:
    assert isinstance(world.device.session, DeviceSession)
    return world.device.session


@settings(max_examples=250)
@given(behaviours(), methods, gammas, lengths, seeds)
def test_output_is_the_models_own_greedy_output(
    behaviour: Behaviour, method: Method, gamma: int, max_new_tokens: int, seed: int
) -> None:
    world = simulated(behaviour, method, gamma, max_new_tokens, seed)
    author = behaviour.draft if method is Method.ON_DEVICE else behaviour.target
    expected = greedy(author, behaviour.stop_ids, max_new_tokens)
    assert world.delivered == expected
    session = device_of(world)
    assert session.output.tokens == expected
    assert session.output.done
    assert world.device.finished is not None
    assert world.device.finished.stopped == (expected[-1] in behaviour.stop_ids)


@given(behaviours(), methods, gammas, lengths, seeds)
def test_every_token_was_verified(
    behaviour: Behaviour, method: Method, gamma: int, max_new_tokens: int, seed: int
) -> None:
    world = simulated(behaviour, method, gamma, max_new_tokens, seed)
    author = world.device.draft if method is Method.ON_DEVICE else world.server.target
    for position, token in enumerate(world.delivered):
        assert author.said[tuple(world.delivered[:position])] == token


@given(behaviours(), methods, gammas, lengths, seeds)
def test_messages_take_turns_and_both_sides_end_idle(
    behaviour: Behaviour, method: Method, gamma: int, max_new_tokens: int, seed: int
) -> None:
    world = simulated(behaviour, method, gamma, max_new_tokens, seed)
    assert re.fullmatch(ORDER[method], "".join(f"{kind} " for kind in world.kinds()))
    assert not world.device.inbox
    assert not world.server.inbox
    assert isinstance(world.server.session, ServerSession)
    assert not world.server.session.busy
    assert (world.server.finished is None) == (method is Method.ON_DEVICE)
    if world.server.finished is not None:
        assert world.server.finished == world.device.finished


@given(behaviours(), gammas, lengths, seeds)
def test_a_pass_costs_what_it_must_and_never_more(
    behaviour: Behaviour, gamma: int, max_new_tokens: int, seed: int
) -> None:
    """Caches are cropped, never filled again: the target is fed one token and the drafts, the draft model what it
    lacks.
    """
    for method in (Method.SPECULATIVE, Method.CO_LOCATED):
        world = simulated(behaviour, method, gamma, max_new_tokens, seed)
        drafter = world.device if method is Method.SPECULATIVE else world.server
        drafting = [action for action in drafter.asked if isinstance(action, DraftTokens)]
        verifying = [action for action in world.server.asked if isinstance(action, Extend)]
        assert all(1 <= len(action.feed) <= 2 for action in drafting)
        assert all(1 <= action.count <= gamma for action in drafting)
        assert all(1 <= len(action.tokens) <= gamma + 1 for action in verifying)
        assert len(drafting) <= len(verifying) == len(world.trial().rounds)
        kept = [action.keep for action in verifying]
        assert kept == sorted(set(kept)), "the target goes forward in every round"


@given(behaviours(), gammas, lengths, seeds)
def test_the_draft_model_is_prefilled_before_the_first_token_goes_out(
    behaviour: Behaviour, gamma: int, max_new_tokens: int, seed: int
) -> None:
    """Co-located: what follows the first token is drafting and verifying alone. Nothing is prefilled for an output that
    has ended.
    """
    world = simulated(behaviour, Method.CO_LOCATED, gamma, max_new_tokens, seed)
    asked = world.server.asked
    first = next(at for at, action in enumerate(asked) if isinstance(action, Send))
    assert first == (2 if len(world.delivered) > 1 else 1)
    assert not any(isinstance(action, Prefill) for action in asked[first:])


@given(behaviours(), lengths)
def test_server_only_takes_one_pass_a_token(behaviour: Behaviour, max_new_tokens: int) -> None:
    world = simulated(behaviour, Method.SERVER_ONLY, 0, max_new_tokens)
    assert world.server.target.fed == [1] * (len(world.delivered) - 1)
    assert world.deliveries == [1] * len(world.delivered)
    assert world.trial().steps_s == (STEP_S,) * (len(world.delivered) - 1)


@given(behaviours(), gammas, lengths, seeds)
def test_co_located_makes_the_rounds_of_speculative(
    behaviour: Behaviour, gamma: int, max_new_tokens: int, seed: int
) -> None:
    remote = simulated(behaviour, Method.SPECULATIVE, gamma, max_new_tokens, seed)
    local = simulated(behaviour, Method.CO_LOCATED, gamma, max_new_tokens, seed)
    counts = [
        [(known.drafted, known.accepted, known.delivered) for known in world.trial().rounds]
        for world in (remote, local)
    ]
    assert counts[0] == counts[1]
    assert remote.deliveries == local.deliveries


@given(behaviours(), gammas, lengths, seeds)
def test_rounds_are_what_crossed_the_link(behaviour: Behaviour, gamma: int, max_new_tokens: int, seed: int) -> None:
    world = simulated(behaviour, Method.SPECULATIVE, gamma, max_new_tokens, seed)
    drafts = [message for message in world.messages if isinstance(message, Draft)]
    verdicts = [message for message in world.messages if isinstance(message, Verdict)]
    rounds = world.trial().rounds
    assert [known.drafted for known in rounds] == [len(unpack_ids(draft.ids)) for draft in drafts]
    assert [known.accepted for known in rounds] == [verdict.node for verdict in verdicts]
    assert [known.judged for known in rounds] == [verdict.verification.judged for verdict in verdicts]
    assert [known.delivered for known in rounds] == world.deliveries[1:]
    assert [(d.epoch, d.base) for d in drafts] == [(v.epoch, v.base) for v in verdicts]
    assert [draft.base for draft in drafts] == [sum(world.deliveries[:n]) for n in range(1, len(drafts) + 1)]
    assert all((known.queue_s, known.verify_s) == (QUEUE_S, STEP_S) for known in rounds)


@given(behaviours(), gammas, lengths, seeds)
def test_the_epoch_counts_how_often_the_output_left_the_draft(
    behaviour: Behaviour, gamma: int, max_new_tokens: int, seed: int
) -> None:
    world = simulated(behaviour, Method.SPECULATIVE, gamma, max_new_tokens, seed)
    rejected = [known.judged > known.accepted for known in world.trial().rounds]
    drafts = [message for message in world.messages if isinstance(message, Draft)]
    assert [draft.epoch for draft in drafts] == [sum(rejected[:n]) for n in range(len(drafts))]


@given(behaviours(), gammas, lengths, seeds)
def test_what_the_server_measured_reaches_the_device(
    behaviour: Behaviour, gamma: int, max_new_tokens: int, seed: int
) -> None:
    trial = simulated(behaviour, Method.CO_LOCATED, gamma, max_new_tokens, seed).trial()
    drafts = trial.n_tokens > 1
    assert (trial.prefill.queue_s, trial.prefill.server_s) == (QUEUE_S * (1 + drafts), STEP_S)
    assert trial.prefill.draft_s == STEP_S * drafts
    assert all((known.queue_s, known.verify_s) == (QUEUE_S, STEP_S) for known in trial.rounds)
    assert all(known.draft_s == (STEP_S if known.drafted else 0) for known in trial.rounds)


@given(behaviours(), methods, gammas, lengths, seeds)
def test_the_parts_of_a_round_sum_to_it(
    behaviour: Behaviour, method: Method, gamma: int, max_new_tokens: int, seed: int
) -> None:
    trial = simulated(behaviour, method, gamma, max_new_tokens, seed).trial()
    assert trial.latency_s == max(delivery.at_s for delivery in trial.deliveries)
    for known in trial.rounds:
        parts = (known.draft_s, known.encode_s, known.network_s, known.queue_s, known.verify_s, known.apply_s)
        assert min(parts) >= 0
        assert sum(parts) == pytest.approx(known.wall_s, abs=1e-6) or known.network_s == 0


@given(behaviours(), methods, gammas, seeds)
def test_one_server_session_serves_one_request_after_another(
    behaviour: Behaviour, method: Method, gamma: int, seed: int
) -> None:
    world = World(behaviour, seed)
    for max_new_tokens in (9, 1, 30):
        respond(world, method, gamma_of(method, gamma), max_new_tokens)
        author = behaviour.draft if method is Method.ON_DEVICE else behaviour.target
        assert world.delivered == greedy(author, behaviour.stop_ids, max_new_tokens)


@pytest.mark.parametrize("gamma", [1, 4, MAX_GAMMA])
def test_a_draft_that_agrees_is_accepted_whole(gamma: int) -> None:
    world = simulated(AGREEABLE, Method.SPECULATIVE, gamma, 1 + 3 * (gamma + 1))
    assert world.deliveries == [1, gamma + 1, gamma + 1, gamma + 1]
    assert [known.accepted for known in world.trial().rounds] == [gamma] * 3


@pytest.mark.parametrize("gamma", [1, 4, MAX_GAMMA])
def test_a_draft_that_never_agrees_costs_a_round_a_token(gamma: int) -> None:
    world = simulated(CONTRARY, Method.SPECULATIVE, gamma, 20)
    assert world.deliveries == [1] * 20
    assert [known.drafted for known in world.trial().rounds] == [min(gamma, left - 1) for left in range(19, 0, -1)]


def test_the_last_token_alone_is_not_drafted() -> None:
    """With room for one token the target makes it itself: an empty draft, and no work for the draft model."""
    world = simulated(AGREEABLE, Method.SPECULATIVE, 4, 2)
    assert world.kinds() == ["Request", "Tokens", "Draft", "Verdict"]
    assert not [action for action in world.device.asked if isinstance(action, DraftTokens)]
    assert world.trial().rounds[0].drafted == 0


@dataclass(frozen=True)
class LateEnd(Behaviour):
    """Ones, then an end."""

    end_at: int = 4

    def target(self, text: tuple[int, ...]) -> int:
        return 0 if len(text) == self.end_at else 1


def test_an_accepted_end_has_no_next_token() -> None:
    ending = LateEnd(seed=1, vocab_size=2, stop_ids=frozenset({0}), stop_share=0.0, agreement=1.0)
    world = simulated(ending, Method.SPECULATIVE, 8, 50)
    assert world.delivered == [1, 1, 1, 1, 0]
    verdict = world.messages[-1]
    assert isinstance(verdict, Verdict)
    assert (verdict.node, verdict.token, verdict.done) == (4, None, True)


@given(gammas)
def test_first_answer_streams_alone(gamma: int) -> None:
    """The device has its first token before anything is drafted."""
    world = simulated(AGREEABLE, Method.SPECULATIVE, gamma, 10)
    first = world.messages[1]
    assert isinstance(first, Tokens)
    assert len(unpack_ids(first.ids)) == 1
