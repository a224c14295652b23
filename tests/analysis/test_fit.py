"""The closed form's numbers, found again in records made from them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aiflow_cli.analysis.arms import Arm
from aiflow_cli.analysis.curves import curves
from aiflow_cli.analysis.fit import Fit, fit
from aiflow_cli.analysis.result import Result
from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import StoreError
from tests.analysis.records import STEP_S, FakePair, FakeSweep

Make = Callable[[FakeSweep], Result]
NETWORK = 0.0003 / STEP_S
"""What the made-up rounds have beside draft and verification, in steps: two ways and some bytes."""


def fitted(make: Make, pair: FakePair, gammas: tuple[int, ...] = (1, 2, 4, 6, 8, 12)) -> Fit:
    sweep = FakeSweep(pairs=(pair,), gammas=gammas, images=12, caption_tokens=300, co_located=(), on_device=False)
    return curves(make(sweep))[0].fit


def test_finds_what_the_records_were_made_of(make: Make) -> None:
    found = fitted(make, FakePair("small-weak", 0.80, 0.18, 0.95, verify_slope=0.03))
    assert found.alpha.value == pytest.approx(0.80, abs=0.015)
    assert found.accepted_share.value == pytest.approx(0.80, abs=0.015)
    assert found.draft_cost.value == pytest.approx(0.18, rel=0.03)
    assert found.round_cost.value == pytest.approx(0.95 + NETWORK, rel=0.03)
    assert found.verify_slope.value == pytest.approx(0.03, rel=0.1)
    assert found.step_ms == pytest.approx(1e3 * STEP_S, rel=0.03)
    for interval in (found.alpha, found.draft_cost, found.round_cost, found.verify_slope):
        assert interval.low <= interval.value <= interval.high
    assert found.model.optimum() in (3, 4)


def test_one_draft_length_tells_no_slope(make: Make) -> None:
    found = fitted(make, FakePair("small-weak", 0.80, 0.18, 0.95), gammas=(4,))
    assert found.draft_cost.value == pytest.approx(0.18, rel=0.03)
    assert found.round_cost.value == pytest.approx(0.95 + NETWORK, rel=0.04)
    assert (found.verify_slope.value, found.verify_slope.known) == (0, False)
    assert found.alpha.value == pytest.approx(0.80, abs=0.02)


def test_a_draft_that_is_never_right(make: Make) -> None:
    found = fitted(make, FakePair("small-weak", alpha=0.0))
    assert found.alpha.value == 0
    assert found.model.speedup(4) < 1


def test_nothing_to_fit(one_gamma: Result) -> None:
    series = one_gamma.series()[0]
    base = one_gamma.baseline(series)
    with pytest.raises(StoreError, match="no rounds"):
        fit(base, {4: base})
    with pytest.raises(StoreError, match="no rounds"):
        fit(Arm(()), {4: one_gamma.arm(series, Method.SPECULATIVE, 4)})
