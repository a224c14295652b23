"""What is said of an output that differs, where the target can be looked into and where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiflow_cli.trials.identity import describe, judge, reference_probe
from aiflow_cli.trials.run import RunResult


def record(method: str, tokens: list[int]) -> dict[str, Any]:
    same = {"image_id": "a", "pair": "small", "node": "x", "warmup": False, "identical": None, "mismatch": None}
    return {**same, "trial": method, "method": method, "gamma": None, "tokens": tokens}


def test_without_the_target_a_difference_is_not_explained_and_fails() -> None:
    probe = reference_probe(None, "cpu", "float32", "?", lambda _: b"")
    judged = judge([record("server-only", [1, 2]), record("co-located", [1, 3])], "float32", probe)
    assert judged[1]["mismatch"] == {"position": 1, "expected": 2, "got": 3, "margin": None, "kind": "unexplained"}
    assert describe(judged[1]) == (
        "unexplained: co-located differs on image a at token 1: expected 2, got 3 (not explained: the target is not on this machine)"
    )
    assert RunResult(Path(), {}, judged).defects == [judged[1]]


def test_a_tie_is_no_defect() -> None:
    judged = judge([record("server-only", [1, 2]), record("co-located", [1, 3])], "float32", lambda *_: 1e-6)
    assert RunResult(Path(), {}, judged).defects == []
    assert describe(judged[1]).endswith("(margin 1e-06 between their logits)")
