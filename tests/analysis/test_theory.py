"""The closed forms, against figures that can be redone by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.analysis.theory import NEVER, PAPER, CostModel, expected_tokens


def test_the_calibration_point_gives_all_of_the_papers_figures() -> None:
    crossing = PAPER.break_even()
    assert PAPER.optimum() == 4
    assert PAPER.speedup(4) == pytest.approx(2.01, abs=0.005)
    assert PAPER.speedup(22) >= 1 > PAPER.speedup(23)
    assert 22 <= crossing < 23
    assert PAPER.speedup(crossing) == pytest.approx(1)


@pytest.mark.parametrize(
    ("alpha", "draft_cost", "round_cost", "optimum"),
    [(0.7, 0.18, 0.95, 3), (0.8, 0.18, 2, 6), (0.8, 0.18, 4, 8), (0.9, 0.05, 1, 13)],
)
def test_optimum(alpha: float, draft_cost: float, round_cost: float, optimum: int) -> None:
    assert CostModel(alpha, draft_cost, round_cost).optimum() == optimum


def test_tokens_of_a_round() -> None:
    assert expected_tokens(0.0, 5) == 1
    assert expected_tokens(1.0, 5) == 6
    assert expected_tokens(0.8, 4) == pytest.approx(1 + 0.8 + 0.64 + 0.512 + 0.4096)
    assert expected_tokens(0.999999, 5) == pytest.approx(6, rel=1e-4)


def test_a_draft_that_never_wins_and_one_that_always_does() -> None:
    assert CostModel(0.3, 0.5, 2.0).break_even() == NEVER
    assert CostModel(0.8, 0.0, 0.95).break_even() == math.inf
    assert CostModel(1.0, 0.5, 1.0).break_even(longest=64) == math.inf


def test_a_dearer_verification_of_long_drafts_is_a_dearer_draft() -> None:
    sloped, plain = CostModel(0.8, 0.10, 0.95, verify_slope=0.08), CostModel(0.8, 0.18, 0.95)
    assert [sloped.speedup(g) for g in (1, 4, 22)] == pytest.approx([plain.speedup(g) for g in (1, 4, 22)])


@pytest.mark.parametrize("values", [(1.1, 0.1, 1.0), (-0.1, 0.1, 1.0), (0.5, -0.1, 1.0), (0.5, 0.1, 0.0)])
def test_what_no_pair_can_be(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="no cost model"):
        CostModel(*values)


@given(alpha=st.floats(0, 0.99), draft_cost=st.floats(0.01, 1), round_cost=st.floats(0.5, 5))
def test_rises_to_the_optimum_and_falls_after_it(alpha: float, draft_cost: float, round_cost: float) -> None:
    model = CostModel(alpha, draft_cost, round_cost)
    best = model.optimum(60)
    speedups = [model.speedup(gamma) for gamma in range(1, 61)]
    rising, falling = speedups[:best], speedups[best - 1 :]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)


@given(alpha=st.floats(0, 0.99), draft_cost=st.floats(0.01, 1), round_cost=st.floats(0.5, 5))
def test_break_even_parts_winning_from_losing(alpha: float, draft_cost: float, round_cost: float) -> None:
    model = CostModel(alpha, draft_cost, round_cost)
    crossing = model.break_even(200)
    if crossing == NEVER:
        assert max(model.speedup(gamma) for gamma in range(1, 201)) < 1
    elif crossing == math.inf:
        assert model.speedup(200) >= 1
    else:
        assert model.speedup(crossing + 0.01) < 1 <= model.speedup(crossing) + 1e-6
