"""Outputs are compared within a node where that can be."""

from __future__ import annotations

from typing import Any

from aiflow_cli.trials.identity import judge


def record(trial: str, method: str, node: str | None, tokens: list[int]) -> dict[str, Any]:
    nodes = {} if node is None else {"node": node}
    same = {"image_id": "a", "pair": "small", "warmup": False, "gamma": None, "identical": None, "mismatch": None}
    return {**same, **nodes, "trial": trial, "method": method, "tokens": tokens}


def test_a_node_is_compared_with_itself_and_else_with_any() -> None:
    records = [
        record("0", "server-only", "one", [1, 2]),
        record("1", "server-only", "two", [1, 3]),
        record("2", "speculative", "two", [1, 3]),
        record("3", "speculative", "three", [1, 2]),
        record("4", "speculative", None, [1, 3]),
    ]
    judged = judge(records, "float32", lambda *_: 1.0)
    assert [r["identical"] for r in judged] == [True, True, True, True, False]
    assert judged[4]["mismatch"]["position"] == 1
