"""Whether an output is server-only's; where it is not, whether that is rounding or a defect, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiflow_cli.decoding.exact import DEFAULT_BOUND, first_undecided
from aiflow_cli.decoding.tree import Tree
from aiflow_cli.trials.identity import compare, describe, reference_probe
from aiflow_cli.trials.run import RunResult
from aiflow_cli.world.record import Mismatch, Trial
from tests.world.trials import trial


def compared(expected: tuple[int, ...], got: tuple[int, ...], margin: float, dtype: str = "float32") -> Trial:
    """An output beside server-only's, both tokens so far apart."""
    both = [trial("server-only", *expected), trial("speculative", *got, gamma=4)]
    return compare(both, dtype, lambda reference, position, first, second: margin)[1]


def kind(margin: float, dtype: str) -> str:
    mismatch = compared((5, 6, 7), (5, 9, 7), margin, dtype).mismatch
    assert mismatch
    assert mismatch.position == 1
    return mismatch.kind


@pytest.mark.parametrize("dtype", DEFAULT_BOUND)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.0, 1.5])
def test_a_tie_is_what_exact_would_decide_again(dtype: str, share: float) -> None:
    margin = share * DEFAULT_BOUND[dtype]
    undecided = first_undecided(Tree.chain(()), (1,), (margin,), frozenset(), DEFAULT_BOUND[dtype]) is not None
    assert kind(margin, dtype) == ("tie" if undecided else "defect")


@pytest.mark.parametrize(
    ("expected", "got", "words"),
    [((5, 6), (5,), "expected 6, got the end"), ((5,), (5, 6), "expected the end, got 6")],
)
def test_an_output_that_ends_early_is_described_as_such(
    expected: tuple[int, ...], got: tuple[int, ...], words: str
) -> None:
    assert words in describe(compared(expected, got, 0.0))


def test_a_bfloat16_margin_that_rounding_was_seen_to_bridge_is_no_defect() -> None:
    assert kind(0.375, "bfloat16") == "tie"
    assert kind(1.0, "bfloat16") == "defect"


def test_a_node_is_compared_with_itself_and_else_with_any() -> None:
    trials = [
        trial("server-only", 1, 2, node="one"),
        trial("server-only", 1, 3, node="two"),
        trial("speculative", 1, 3, node="two"),
        trial("speculative", 1, 2, node="three"),
        trial("speculative", 1, 3, node="four"),
    ]
    done = compare(trials, "float32", lambda *_: 1.0)
    assert [one.identical for one in done] == [True, True, True, True, False]
    assert done[4].mismatch
    assert done[4].mismatch.position == 1


def test_warm_ups_and_the_drafts_own_output_are_not_compared() -> None:
    trials = [trial("server-only", 1), trial("on-device", 2), trial("speculative", 3, warmup=True)]
    assert [one.identical for one in compare(trials, "float32", lambda *_: 1.0)] == [True, None, None]


def test_without_the_target_a_difference_is_not_explained_and_fails() -> None:
    probe = reference_probe(None, "?", {})
    done = compare([trial("server-only", 1, 2), trial("co-located", 1, 3)], "float32", probe)
    assert done[1].mismatch == Mismatch(position=1, expected=2, got=3, margin=None, kind="unexplained")
    assert describe(done[1]) == (
        "unexplained: co-located differs on image a at token 1: expected 2, got 3 "
        "(not explained: the target is not on this machine)"
    )
    assert RunResult(Path(), {}, done).defects == [done[1]]


def test_a_tie_is_no_defect() -> None:
    tie = compared((1, 2), (1, 3), 1e-6)
    assert RunResult(Path(), {}, [tie]).defects == []
    assert RunResult(Path(), {}, [tie]).mismatches == [tie]
    assert describe(tie).endswith("(margin 1e-06 between their logits)")
