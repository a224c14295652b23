"""Whether a difference from server-only is rounding or a defect, by the same bound that `--exact` decides positions again by."""

from __future__ import annotations

from typing import Any

import pytest

from aiflow_cli.decoding.exact import DEFAULT_BOUND, first_undecided
from aiflow_cli.trials.identity import describe, judge


def trial(method: str, *tokens: int) -> dict[str, Any]:
    return {"image_id": "a", "pair": "p", "method": method, "gamma": None, "warmup": False, "tokens": tokens}


def kind(margin: float, dtype: str) -> str:
    """What a difference is called whose two tokens are so far apart."""
    records = [trial("server-only", 5, 6, 7), trial("speculative", 5, 9, 7)]
    _, judged = judge(records, dtype, lambda reference, position, expected, other: margin)
    assert judged["mismatch"]["position"] == 1
    return str(judged["mismatch"]["kind"])


@pytest.mark.parametrize("dtype", DEFAULT_BOUND)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.0, 1.5])
def test_a_tie_is_what_exact_would_decide_again(dtype: str, share: float) -> None:
    margin = share * DEFAULT_BOUND[dtype]
    undecided = first_undecided((), (1,), (margin,), frozenset(), DEFAULT_BOUND[dtype]) is not None
    assert kind(margin, dtype) == ("tie" if undecided else "defect")


def test_an_output_that_ends_early_is_described_as_such() -> None:
    longer, shorter = trial("server-only", 5, 6), trial("speculative", 5)
    for reference, other, words in (
        (longer, shorter, "expected 6, got the end"),
        (shorter, longer, "expected the end, got 6"),
    ):
        records = [reference | {"method": "server-only"}, other | {"method": "speculative"}]
        _, judged = judge(records, "float32", lambda *_: 0.0)
        assert words in describe(judged)


def test_a_bfloat16_margin_that_rounding_was_seen_to_bridge_is_no_defect() -> None:
    assert kind(0.375, "bfloat16") == "tie"
    assert kind(1.0, "bfloat16") == "defect"
