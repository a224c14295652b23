"""Events with times and bytes go in, one trial comes out: each figure from what it is defined by."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.decoding.actions import DraftTokens, Prefill
from aiflow_cli.decoding.events import Drafted, Prefilled
from aiflow_cli.decoding.methods import Method
from aiflow_cli.wire.messages import Draft, Picture, Request, Round, Tokens, Verdict, Verification, pack_ids
from aiflow_cli.world import record
from aiflow_cli.world.record import Trial
from aiflow_cli.world.recorder import Recorder
from tests.decoding.models import Behaviour
from tests.decoding.strategies import behaviours, gamma_of, gammas, lengths, methods, seeds
from tests.decoding.world import World, planned, respond

PREFILL = Prefill(model="draft", input=Picture(b""), prompt="", max_new_tokens=9)
DRAFT = DraftTokens(keep=0, feed=(1,), count=4, stop_ids=frozenset())
REQUEST = Request(7, "speculative", 4, 9, "", Picture(b""))


def begun(method: Method, gamma: int = 4) -> Recorder:
    """A response that began at 100 s, with its request of 5,000 bytes sent, and the first token there after 0.5 s."""
    recorder = Recorder(planned(method, gamma))
    recorder.begun(100.0)
    recorder.sent(REQUEST, 5000, 100.01)
    recorder.performed(PREFILL, Prefilled(1, 5), 100.02, 100.12)
    first = Tokens(7, 0, pack_ids([5]), False, queue_us=20_000, compute_us=200_000, draft_us=30_000)
    recorder.received(first, 30, 100.49)
    recorder.delivered((5,), 100.5)
    return recorder


def test_a_round_over_the_link() -> None:
    recorder = begun(Method.SPECULATIVE)
    recorder.performed(DRAFT, Drafted(2, (1, 2, 3, 4)), 100.51, 100.6)
    recorder.sent(Draft(7, 0, 1, pack_ids([1, 2, 3, 4])), 25, 100.61)
    recorder.received(Verdict(7, 0, 1, 2, 9, False, Verification(3, 10_000, 60_000, 2, 40_000)), 31, 100.75)
    recorder.delivered((1, 2, 9), 100.76)
    recorder.finished(True)
    trial = recorder.trial("a bus")
    (known,) = trial.rounds
    assert msgspec.structs.asdict(known) == {
        "drafted": 4,
        "judged": 3,
        "accepted": 2,
        "delivered": 3,
        "draft_s": pytest.approx(0.1),
        "encode_s": pytest.approx(0.01),
        "network_s": pytest.approx(0.07),
        "queue_s": 0.01,
        "verify_s": 0.06,
        "apply_s": pytest.approx(0.01),
        "wall_s": pytest.approx(0.26),
        "bytes_up": 25,
        "bytes_down": 31,
        "redecide_steps": 2,
        "redecide_s": 0.04,
    }
    assert (trial.tokens, trial.stopped, trial.caption) == ((5, 1, 2, 9), True, "a bus")
    assert [delivery.n_tokens for delivery in trial.deliveries] == [1, 3]
    assert [delivery.at_s for delivery in trial.deliveries] == pytest.approx([0.5, 0.76])
    assert trial.bytes_up_by_message == {"Request": 5000, "Draft": 25}
    assert trial.bytes_down_by_message == {"Tokens": 30, "Verdict": 31}
    assert (trial.ttft_s, trial.bytes_up, trial.bytes_down) == (0.5, 5025, 61)
    assert trial.latency_s == pytest.approx(0.76)


def test_the_prefill_where_the_device_drafts() -> None:
    """The draft model's is the device's own; the network has what the server did not take."""
    prefill = begun(Method.SPECULATIVE).trial("").prefill
    assert prefill.draft_s == pytest.approx(0.1)
    assert (prefill.queue_s, prefill.server_s) == (0.02, 0.2)
    assert prefill.network_s == pytest.approx(0.28)


def test_the_prefill_and_a_round_where_the_server_drafts() -> None:
    recorder = begun(Method.CO_LOCATED)
    told = Round(7, 1, pack_ids([1, 9]), False, 4, 1, 50_000, Verification(2, 10_000, 60_000))
    recorder.received(told, 28, 100.7)
    recorder.delivered((1, 9), 100.7)
    trial = recorder.trial("")
    assert trial.prefill.draft_s == 0.03
    assert trial.prefill.network_s == pytest.approx(0.25)
    (known,) = trial.rounds
    assert (known.drafted, known.judged, known.accepted, known.delivered) == (4, 2, 1, 2)
    assert (known.draft_s, known.queue_s, known.verify_s) == (0.05, 0.01, 0.06)
    assert known.network_s == pytest.approx(0.2 - 0.12)
    assert (known.encode_s, known.apply_s, known.bytes_up, known.bytes_down) == (0, 0, 0, 28)


def test_single_steps() -> None:
    """Of the target as the server tells them, of the draft model by the device's own clock."""
    remote = begun(Method.SERVER_ONLY, 0)
    remote.received(Tokens(7, 1, pack_ids([2]), True, 0, 7_000), 20, 100.6)
    remote.delivered((2,), 100.6)
    assert remote.trial("").steps_s == (0.007,)
    alone = Recorder(planned(Method.ON_DEVICE, 0))
    alone.begun(0.0)
    alone.performed(PREFILL, Prefilled(1, 5), 0.0, 0.1)
    alone.delivered((5,), 0.1)
    alone.performed(DRAFT, Drafted(2, (6,)), 0.1, 0.102)
    alone.delivered((6,), 0.103)
    trial = alone.trial("")
    assert list(trial.steps_s) == pytest.approx([0.002])
    assert trial.prefill == record.Prefill(draft_s=0.1)
    assert (trial.bytes_up, trial.bytes_down) == (0, 0)


def test_a_late_answer_to_another_request_counts_for_nothing() -> None:
    recorder = begun(Method.SERVER_ONLY, 0)
    recorder.received(Tokens(6, 9, pack_ids([3]), False, 0, 9_000), 99, 100.55)
    recorder.received(Tokens(7, 1, pack_ids([2]), True, 0, 7_000), 20, 100.6)
    recorder.delivered((2,), 100.6)
    trial = recorder.trial("")
    assert trial.bytes_down_by_message == {"Tokens": 50}
    assert trial.steps_s == (0.007,)


def test_a_server_that_claims_more_time_than_there_was_leaves_the_network_none() -> None:
    recorder = begun(Method.SPECULATIVE)
    recorder.sent(Draft(7, 0, 1, b""), 12, 100.5)
    recorder.received(Verdict(7, 0, 1, 0, 9, False, Verification(0, 0, 9_000_000)), 31, 100.6)
    recorder.delivered((9,), 100.6)
    (known,) = recorder.trial("").rounds
    assert (known.drafted, known.draft_s, known.network_s) == (0, 0, 0)


@given(behaviours(), methods, gammas, lengths, seeds)
def test_a_trial_survives_its_record(behaviour: Behaviour, method: Method, gamma: int, limit: int, seed: int) -> None:
    world = World(behaviour, seed)
    respond(world, method, gamma_of(method, gamma), limit)
    trial = world.trial()
    assert msgspec.json.decode(msgspec.json.encode(trial), type=Trial) == trial
    assert trial.n_tokens == sum(delivery.n_tokens for delivery in trial.deliveries)
    assert trial.first_tokens == 1
    delivered = sum(known.delivered for known in trial.rounds)
    assert delivered == (trial.n_tokens - 1 if trial.rounds else 0)


@given(st.floats(0, 1e5), st.integers(0, 2))
def test_links_come_back_as_they_were(delay_s: float, which: int) -> None:
    rates = [(None, None), (1e6, None), (5e5, 2e6)][which]
    delay_s = min(delay_s, 60.0)
    link = record.Link(uplink_bytes_per_s=rates[0], downlink_bytes_per_s=rates[1], burst_bytes=10_000, delay_s=delay_s)
    assert record.Link.of(link.spec) == link
