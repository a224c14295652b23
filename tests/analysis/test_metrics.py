"""The measured quantities, by hand."""

from __future__ import annotations

import msgspec
import pytest

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.arms import Arm
from aiflow_cli.analysis.curves import curves
from aiflow_cli.analysis.metrics import Ratio, Unit
from aiflow_cli.analysis.result import Result
from aiflow_cli.analysis.summary import summarise
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.run_lengths import split_into_rounds
from aiflow_cli.world.record import Delivery, Link, Prefill, Round, Setting, Trial


def a_round(drafted: int, accepted: int, delivered: int, draft_s: float = 0.004, rest_s: float = 0.006) -> Round:
    return Round(
        drafted=drafted,
        judged=min(drafted, accepted + 1),
        accepted=accepted,
        delivered=delivered,
        draft_s=draft_s,
        encode_s=0.0,
        network_s=0.001,
        queue_s=0.0,
        verify_s=rest_s - 0.001,
        apply_s=0.0,
        wall_s=draft_s + rest_s,
        bytes_up=20,
        bytes_down=15,
    )


LINK = Link(uplink_bytes_per_s=1e6, downlink_bytes_per_s=1e6, burst_bytes=10_000, delay_s=0.0)
RESPONSE = Trial(
    trial="one-4",
    node="laptop",
    block=0,
    order=0,
    repeat=0,
    image_id="one",
    image_bytes=5900,
    setting=Setting(pair="small", method=Method.SPECULATIVE, gamma=4, link=LINK),
    started_at="2025-01-01T00:00:00.000Z",
    tokens=tuple(range(11)),
    deliveries=(Delivery(0.05, 2), Delivery(0.06, 3), Delivery(0.07, 1), Delivery(0.08, 5)),
    rounds=(a_round(4, 2, 3), a_round(4, 0, 1), a_round(4, 4, 5)),
    bytes_up_by_message={"Request": 6000, "Draft": 60},
    bytes_down_by_message={"Verdict": 60},
)


def close(ratio: Ratio, over: float, under: float) -> bool:
    return abs(ratio.over - over) < 1e-12 and ratio.under == under


def test_every_definition_of_latency() -> None:
    assert close(metrics.ttft(RESPONSE), 0.05, 1)
    assert close(metrics.latency_per_token(RESPONSE), 0.08, 11)
    assert close(metrics.tpot(RESPONSE), 0.03, 10)
    assert close(metrics.decode_tpot(RESPONSE), 0.03, 9)


def test_acceptance_in_every_sense() -> None:
    assert metrics.tokens_per_round(RESPONSE) == Ratio(9, 3)
    assert metrics.draft_acceptance(RESPONSE) == Ratio(6, 12)
    assert metrics.acceptance(RESPONSE) == Ratio(6, 3 + 1 + 4)  # judged: two and the first rejected one, one, all four
    assert metrics.acceptance_at(1)(RESPONSE) == Ratio(2, 3)
    assert metrics.acceptance_at(3)(RESPONSE) == Ratio(1, 2)
    assert metrics.acceptance_at(4)(RESPONSE) == Ratio(1, 1)
    assert metrics.acceptance_at(5)(RESPONSE) == Ratio(0, 0)


def test_tokens_per_round_are_one_thing_everywhere(figure6: Result) -> None:
    """Delivered over rounds in table, curve and formula; an accepted end has no token beside it."""
    series = figure6.series()[0]
    arm = figure6.arm(series, Method.SPECULATIVE, 8)
    rounds = [r for trial in arm.trials for r in trial.rounds]
    expected = sum(r.delivered for r in rounds) / len(rounds)
    assert expected < 1 + sum(r.accepted for r in rounds) / len(rounds)
    assert arm.value(metrics.tokens_per_round) == expected
    assert curves(figure6)[0].at(8).arm.interval(metrics.tokens_per_round).value == pytest.approx(expected)
    assert next(m for m in summarise(arm.trials) if m.gamma == 8).tokens_per_round == expected
    assert metrics.FORMULAS["tokens per round"] == "tokens that rounds delivered / rounds"
    matches = [
        True,
        True,
        False,
        True,
        True,
    ]  # two accepted and a correction; two accepted, the last of which is the end
    assert split_into_rounds(matches, 4) == [3, 2]  # what the quality of a pair is computed from


def test_drafts_behind_an_undecided_position_are_not_rejected() -> None:
    """Two of four were accepted, then a position was undecided: the other two say nothing about acceptance."""
    undecided = ((a_round(4, 2, 3), 2), (a_round(4, 0, 1), 0))
    record = RESPONSE.replace(rounds=tuple(msgspec.structs.replace(r, judged=judged) for r, judged in undecided))
    assert metrics.acceptance(record) == Ratio(2, 2)
    assert metrics.draft_acceptance(record) == Ratio(2, 8)
    assert [metrics.acceptance_at(k)(record) for k in (1, 2, 3)] == [Ratio(1, 1), Ratio(1, 1), Ratio(0, 0)]


def test_bytes_with_and_without_the_image() -> None:
    assert metrics.bytes_up_per_token(RESPONSE) == Ratio(6060, 11)
    assert metrics.round_bytes_up_per_token(RESPONSE) == Ratio(60, 11)
    assert metrics.bytes_down_per_token(RESPONSE) == Ratio(60, 11)
    without_image = RESPONSE.replace(bytes_up_by_message={"Draft": 60})
    assert metrics.round_bytes_up_per_token(without_image) == Ratio(60, 11)


def test_parts_of_a_round() -> None:
    arm = Arm([RESPONSE])
    assert arm.value(metrics.per_round("draft")) == 0.004
    total = sum(arm.value(metrics.per_round(part)) or 0 for part in metrics.ROUND_PARTS)
    assert total == pytest.approx(arm.value(metrics.round_wall))


def test_up_and_down_are_modelled_from_what_both_took() -> None:
    """A delay each way, and half of the rest; nothing goes up where the server drafts."""
    slow = msgspec.structs.replace(LINK, delay_s=0.01)
    setting = msgspec.structs.replace(RESPONSE.setting, link=slow)
    one = msgspec.structs.replace(a_round(4, 2, 3), network_s=0.024)
    assert metrics.round_ways(RESPONSE.replace(setting=setting), one) == pytest.approx((0.012, 0.012))
    co_located = msgspec.structs.replace(setting, method=Method.CO_LOCATED)
    assert metrics.round_ways(RESPONSE.replace(setting=co_located), one) == (0.0, 0.024)


def test_up_and_down_of_the_prefill_are_modelled_likewise() -> None:
    """6,000 bytes go up at 1 MB/s behind a burst of 1,000, a delay each way; the first answer is a few bytes."""
    link = msgspec.structs.replace(LINK, burst_bytes=1000, delay_s=0.01)
    setting = msgspec.structs.replace(RESPONSE.setting, link=link)
    response = RESPONSE.replace(setting=setting, prefill=Prefill(network_s=0.035))
    assert metrics.prefill_ways(response) == pytest.approx((0.020, 0.015))
    without_request = response.replace(bytes_up_by_message={"Draft": 60})
    assert metrics.prefill_ways(without_request) == pytest.approx((0.0175, 0.0175))
    assert metrics.prefill_ways(RESPONSE) == (0.0, 0.0), "nothing crossed a link"


def test_an_image_is_apart_on_each_node_and_in_each_session() -> None:
    trials = [RESPONSE, RESPONSE, RESPONSE.replace(node="a"), RESPONSE.replace(session=1)]
    assert metrics.sums_of(trials, metrics.tokens_per_round) == {
        Unit(0, "laptop", "one"): Ratio(18, 6),
        Unit(0, "a", "one"): Ratio(9, 3),
        Unit(1, "laptop", "one"): Ratio(9, 3),
    }


def test_not_defined_is_none() -> None:
    whole = Arm([RESPONSE.replace(tokens=(1, 2), deliveries=(Delivery(0.05, 2),), rounds=())])
    assert whole.value(metrics.decode_tpot) is None
    assert whole.value(metrics.tokens_per_round) is None
    assert not whole.interval(metrics.decode_tpot).defined
