"""The paper's claims, judged over results that are made to hold them, to break them, or to leave them open."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from aiflow_cli.analysis.claims import DIFFERS, HOLDS, UNTESTED, Finding, claims_table
from aiflow_cli.analysis.intervals import FEWEST_IMAGES
from aiflow_cli.analysis.result import Result, load
from aiflow_cli.analysis.study import Study
from tests.analysis.records import FakePair, FakeSweep, records, write_records

Make = Callable[..., Result]
MEASURED = ("identical", "optimum", "speedup", "below", "above", "acceptance", "break-even")
SET_UP = ("models", "data", "link")


def judged(result: Result) -> dict[str, Finding]:
    return {finding.claim.key: finding for finding in claims_table(Study(result))}


def verdicts(findings: dict[str, Finding], keys: Iterable[str] = MEASURED) -> dict[str, str]:
    return {key: findings[key].verdict for key in keys}


@pytest.fixture(scope="module")
def paper_like(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A draft with the paper's numbers, over enough images."""
    sweep = FakeSweep(
        pairs=(FakePair("small-weak", 0.80, 0.18, 0.95),),
        gammas=(1, 2, 4, 8, 16, 22, 25, 28),
        images=30,
        caption_tokens=250,
        co_located=(),
        seed=3,
    )
    folder = tmp_path_factory.mktemp("paper")
    write_records(folder, list(records(sweep)))
    return load(folder)


def test_a_paper_like_result_holds_them_all(paper_like: Result) -> None:
    findings = judged(paper_like)
    assert verdicts(findings) == dict.fromkeys(MEASURED, HOLDS), findings
    assert findings["identical"].measured == "240 of 240 outputs"
    assert "30 of 30 images" in findings["identical"].interval
    assert findings["optimum"].measured == "4"


def test_a_strong_draft_differs(make: Make) -> None:
    sweep = FakeSweep(
        pairs=(FakePair("small", alpha=0.98),), gammas=(1, 2, 4, 8, 16, 28), images=16, caption_tokens=150
    )
    findings = judged(make(sweep))
    expected = {"optimum": DIFFERS, "speedup": DIFFERS, "above": DIFFERS, "break-even": DIFFERS, "below": HOLDS}
    assert verdicts(findings, expected) == expected
    assert findings["break-even"].measured == "> 28"
    assert "faster than 1.8 to 2.2" in findings["speedup"].why


def test_a_useless_draft_differs(make: Make) -> None:
    findings = judged(
        make(FakeSweep(pairs=(FakePair("small", alpha=0.2, round_cost=2),), gammas=(1, 2, 4, 8, 28), images=10))
    )
    assert verdicts(findings, ("optimum", "speedup", "below", "break-even")) == dict.fromkeys(
        ("optimum", "speedup", "below", "break-even"), DIFFERS
    )
    assert findings["break-even"].measured == "none"
    assert findings["above"].verdict == HOLDS


@pytest.mark.parametrize("images", [1, FEWEST_IMAGES - 1])
def test_too_few_images_decide_nothing(make: Make, images: int) -> None:
    """Figures that would decide every claim, over many images: values are told, without intervals, and why there is no verdict."""
    findings = judged(make(FakeSweep(pairs=(FakePair("small"),), gammas=(1, 2, 4, 8, 28), images=images, noise=0)))
    for key in MEASURED:
        finding = findings[key]
        assert (finding.verdict, finding.interval) == (UNTESTED, ""), finding
        assert f"{images} image{'s' * (images > 1)}: too few for an interval, which needs at least 10" in finding.why
        assert finding.measured != "-"
        assert "nan" not in finding.measured
    assert set(verdicts(findings, SET_UP).values()) == {UNTESTED, HOLDS}  # these rest on no image


def test_one_output_that_differs_is_enough_however_few_they_are(make: Make, tmp_path: Path) -> None:
    few = make(FakeSweep(pairs=(FakePair("small"),), gammas=(4,), images=2, co_located=()))
    finding = judged(broken(few, "tie", tmp_path))["identical"]
    assert (finding.verdict, finding.measured, finding.interval) == (DIFFERS, "1 of 2 outputs", "")


def test_one_draft_length_tests_no_curve(one_gamma: Result) -> None:
    findings = judged(one_gamma)
    assert findings["identical"].verdict == HOLDS
    assert set(verdicts(findings, MEASURED[1:]).values()) == {UNTESTED}
    assert findings["speedup"].measured.endswith("at 4")


def test_short_drafts_leave_break_even_open(make: Make) -> None:
    finding = judged(make(FakeSweep(pairs=(FakePair("small-weak"),), gammas=(1, 2, 4, 8, 12), images=10)))["break-even"]
    assert (finding.verdict, finding.measured) == (UNTESTED, "> 12")
    assert "longest draft measured is 12" in finding.why


def broken(result: Result, kind: str, folder: Path) -> Result:
    """One output that differs."""
    changed: list[Any] = [dict(r) for r in result.trials]
    victim = next(r for r in changed if r.setting.method.value == "speculative")
    victim |= {"identical": False, "mismatch": {"position": 3, "expected": 5, "got": 6, "margin": 1e-5, "kind": kind}}
    write_records(folder, changed)
    return load(folder)


@pytest.mark.parametrize("kind", ["tie", "defect"])
def test_one_output_that_differs_is_enough(kind: str, one_gamma: Result, tmp_path: Path) -> None:
    finding = judged(broken(one_gamma, kind, tmp_path))["identical"]
    assert finding.verdict == DIFFERS
    assert finding.measured == "11 of 12 outputs"
    assert f"1 {kind}" in finding.why
    assert ("rounding" in finding.why) == (kind == "tie")


def test_outputs_not_compared_yet(one_gamma: Result, tmp_path: Path) -> None:
    write_records(tmp_path, [dict(r) | {"identical": None} for r in one_gamma.trials])
    assert judged(load(tmp_path))["identical"].verdict == UNTESTED


def test_set_up(figure6: Result) -> None:
    findings = judged(figure6)
    assert verdicts(findings, SET_UP) == {"models": UNTESTED, "data": UNTESTED, "link": HOLDS}
    assert "AMD EPYC" in findings["models"].measured


def test_the_papers_own_set_up_is_recognised(make: Make) -> None:
    sweep = FakeSweep(
        pairs=(FakePair("internvl2-2b-26b", target="26b"),),
        gammas=(4,),
        images=627,
        data="vehicles-openimage",
        rates=(5e5,),
    )
    result = make(sweep, co_located=(), on_device=False, caption_tokens=8, gpu={"name": "NVIDIA RTX 4090"})
    assert verdicts(judged(result), SET_UP) == dict.fromkeys(SET_UP, HOLDS)


def test_a_link_outside_the_papers(make: Make) -> None:
    findings = judged(make(FakeSweep(pairs=(FakePair("small"),), gammas=(4,), images=3, rates=(1e5,))))
    assert findings["link"].verdict == DIFFERS


def test_every_pair_and_link_is_judged(figure6: Result, delays: Result) -> None:
    rows = claims_table(Study(figure6))
    assert len(rows) == 2 * len(MEASURED) + len(SET_UP)
    assert [f.series for f in rows[:2]] == ["small-weak", "small"]
    assert [f.series for f in claims_table(Study(delays))[:3]] == ["1 MB/s", "1 MB/s, 5 ms", "1 MB/s, 20 ms"]
    assert set(rows[0].as_json()) == {
        "claim",
        "statement",
        "paper",
        "where",
        "series",
        "measured",
        "interval",
        "verdict",
        "why",
    }
