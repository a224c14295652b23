"""The measured quantities, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.curves import curves
from aiflow_cli.analysis.metrics import Ratio
from aiflow_cli.analysis.result import Result
from aiflow_cli.analysis.summary import summarise
from aiflow_cli.decoding.run_lengths import split_into_rounds


def a_round(
    drafted: int, accepted: int, delivered: int, draft_s: float = 0.004, rest_s: float = 0.006
) -> dict[str, Any]:
    parts = dict.fromkeys(metrics.ROUND_PARTS, 0.0) | {"draft_s": draft_s, "verify_s": rest_s}
    counts = {"drafted": drafted, "accepted": accepted, "delivered": delivered}
    return counts | parts | {"wall_s": draft_s + rest_s, "bytes_up": 20, "bytes_down": 15}


RECORD: dict[str, Any] = {
    "image_id": "one",
    "n_tokens": 11,
    "deliveries": [[0.05, 2], [0.06, 3], [0.07, 1], [0.08, 5]],
    "ttft_s": 0.05,
    "latency_s": 0.08,
    "rounds": [a_round(4, 2, 3), a_round(4, 0, 1), a_round(4, 4, 5)],
    "bytes_up": 6060,
    "bytes_down": 60,
    "bytes_by_message": {"up": {"Request": 6000, "Draft": 60}, "down": {"Verdict": 60}},
}


def close(ratio: Ratio, over: float, under: float) -> bool:
    return abs(ratio.over - over) < 1e-12 and ratio.under == under


def test_every_definition_of_latency() -> None:
    assert close(metrics.ttft(RECORD), 0.05, 1)
    assert close(metrics.latency_per_token(RECORD), 0.08, 11)
    assert close(metrics.tpot(RECORD), 0.03, 10)
    assert close(metrics.decode_tpot(RECORD), 0.03, 9)


def test_acceptance_in_every_sense() -> None:
    assert metrics.tokens_per_round(RECORD) == Ratio(9, 3)
    assert metrics.draft_acceptance(RECORD) == Ratio(6, 12)
    assert metrics.acceptance(RECORD) == Ratio(6, 3 + 1 + 4)  # judged: two and the first rejected one, one, all four
    assert metrics.acceptance_at(1)(RECORD) == Ratio(2, 3)
    assert metrics.acceptance_at(3)(RECORD) == Ratio(1, 2)
    assert metrics.acceptance_at(4)(RECORD) == Ratio(1, 1)
    assert metrics.acceptance_at(5)(RECORD) == Ratio(0, 0)


def test_tokens_per_round_are_one_thing_everywhere(figure6: Result) -> None:
    """Delivered over rounds in table, curve and formula; a round that ends with an accepted end has no token beside its drafts."""
    series = figure6.series()[0]
    records = figure6.trials(series, "speculative", 8)
    rounds = [r for record in records for r in record["rounds"]]
    expected = sum(r["delivered"] for r in rounds) / len(rounds)
    assert expected < 1 + sum(r["accepted"] for r in rounds) / len(rounds)
    assert metrics.ratio_of_sums(records, metrics.tokens_per_round) == expected
    assert curves(figure6)[0].at(8).tokens_per_round.value == pytest.approx(expected)
    assert next(m for m in summarise(records) if m.gamma == 8).tokens_per_round == expected
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
    record = RECORD | {"rounds": [a_round(4, 2, 3) | {"judged": 2}, a_round(4, 0, 1) | {"judged": 0}]}
    assert metrics.acceptance(record) == Ratio(2, 2)
    assert metrics.draft_acceptance(record) == Ratio(2, 8)
    assert [metrics.acceptance_at(k)(record) for k in (1, 2, 3)] == [Ratio(1, 1), Ratio(1, 1), Ratio(0, 0)]


def test_bytes_with_and_without_the_image() -> None:
    assert metrics.bytes_up_per_token(RECORD) == Ratio(6060, 11)
    assert metrics.round_bytes_up_per_token(RECORD) == Ratio(60, 11)
    without_image = RECORD | {"bytes_by_message": {"up": {}}}
    assert metrics.round_bytes_up_per_token(without_image) == Ratio(6060, 11)
    assert metrics.bytes_down_per_token(RECORD) == Ratio(60, 11)


def test_parts_of_a_round() -> None:
    assert metrics.ratio_of_sums([RECORD], metrics.per_round("draft_s")) == 0.004
    total = sum(metrics.ratio_of_sums([RECORD], metrics.per_round(part)) or 0 for part in metrics.ROUND_PARTS)
    assert abs(total - (metrics.ratio_of_sums([RECORD], metrics.per_round("wall_s")) or 0)) < 1e-12


def test_an_image_is_apart_on_each_node() -> None:
    records = [RECORD, RECORD, RECORD | {"node": "a"}, RECORD | {"node": "b"}]
    assert metrics.by_image(records, metrics.tokens_per_round) == {
        "one": Ratio(18, 6),
        "a/one": Ratio(9, 3),
        "b/one": Ratio(9, 3),
    }


def test_not_defined_is_none() -> None:
    whole = RECORD | {"n_tokens": 2, "deliveries": [[0.05, 2]], "latency_s": 0.05, "rounds": []}
    assert metrics.ratio_of_sums([whole], metrics.decode_tpot) is None
    assert metrics.ratio_of_sums([whole], metrics.tokens_per_round) is None
