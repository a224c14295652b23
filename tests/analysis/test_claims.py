"""The paper's claims, judged over results that are made to hold them, to break them, or to leave them open."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import pytest

from aiflow_cli.analysis.claims import Finding, claims_table, footnotes
from aiflow_cli.analysis.intervals import FEWEST_IMAGES, Interval
from aiflow_cli.analysis.margins import DIFFERS, HOLDS, MARGINS, UNDECIDED, Margin
from aiflow_cli.analysis.result import Result, load, repeats
from aiflow_cli.analysis.study import Study
from aiflow_cli.analysis.summary import summarise
from aiflow_cli.analysis.theory import PAPER, expected_tokens
from aiflow_cli.decoding.methods import Method
from aiflow_cli.world.record import Mismatch
from tests.analysis.records import FakePair, FakeSweep, records, write_records

Kind = Literal["tie", "defect"]
Make = Callable[..., Result]
MEASURED = ("identical", "optimum", "speedup", "below", "above", "acceptance", "break-even")
SET_UP = ("models", "data", "link")


def judged(result: Result) -> dict[str, Finding]:
    return {finding.claim.key: finding for finding in claims_table(Study(result))}


def verdicts(findings: dict[str, Finding], keys: Iterable[str] = MEASURED) -> dict[str, str | None]:
    return {key: findings[key].verdict for key in keys}


@pytest.fixture(scope="module")
def paper_like(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A draft with the paper's numbers, over enough images."""
    sweep = FakeSweep(
        pairs=(FakePair("small-weak", 0.80, 0.18, 0.95),),
        gammas=(1, 2, 3, 4, 8, 16, 20, 22, 24, 28),
        images=40,
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
    assert findings["identical"].measured == "400 of 400 outputs"
    assert "40 of 40 images" in findings["identical"].interval
    assert findings["optimum"].measured == "4"


def test_a_strong_draft_differs(make: Make) -> None:
    """A pair that is meant to be like the paper's, and is not."""
    sweep = FakeSweep((FakePair("small-weak", alpha=0.98),), (1, 2, 4, 8, 16, 28), images=16, caption_tokens=150)
    findings = judged(make(sweep))
    expected = {"optimum": DIFFERS, "speedup": DIFFERS, "above": DIFFERS, "break-even": DIFFERS, "below": DIFFERS}
    assert verdicts(findings, expected) == expected
    assert findings["break-even"].measured == "> 28"
    assert "above the margin" in findings["speedup"].why
    for key in ("optimum", "break-even"):
        assert "(c + s) / F is 0.18" in findings[key].why
        assert "0.19 at α 0.80 in the paper's calibration" in findings[key].why
        assert "optimum 4 and break-even 22.3 there" in findings[key].why


def test_a_useless_draft_differs(make: Make) -> None:
    pair = FakePair("small-weak", alpha=0.2, round_cost=2)
    findings = judged(make(FakeSweep((pair,), (1, 2, 4, 8, 28), images=20, caption_tokens=150)))
    assert verdicts(findings, ("speedup", "break-even")) == dict.fromkeys(("speedup", "break-even"), DIFFERS)
    assert findings["optimum"].verdict == DIFFERS
    assert findings["below"].verdict == DIFFERS
    assert "below the margin" in findings["below"].why
    assert findings["break-even"].measured == "none"
    assert findings["above"].verdict == HOLDS


def test_what_is_not_meant_to_be_like_the_paper_is_told_and_not_judged(figure6: Result) -> None:
    rows = [f for f in claims_table(Study(figure6)) if f.series == "small"]
    assert [f.claim.key for f in rows] == ["identical", "optimum", "speedup", "acceptance", "break-even"]
    assert [f.verdict for f in rows] == [HOLDS, None, None, None, None]
    assert all(f.measured and f.interval for f in rows)
    notes = footnotes(claims_table(Study(figure6)))
    assert str(notes["told"]).startswith("small: ")
    assert len(notes["margins"]) == len(MARGINS) + 1


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((1.8, 2.2), HOLDS),
        ((1.7, 2.2), UNDECIDED),
        ((1.7, 2.3), UNDECIDED),
        ((2.21, 2.3), DIFFERS),
        ((1, 1.79), DIFFERS),
    ],
)
def test_a_verdict_is_of_the_whole_interval(ends: tuple[float, float], verdict: str) -> None:
    assert Margin(1.8, 2.2, "").verdict(Interval(2.0, *ends)) == verdict
    assert Margin(1.8, 2.2, "").verdict(Interval(2.0)) == UNDECIDED
    assert Margin(1.8, 2.2, "").place(Interval(2.0)) == "there is no interval"


def test_the_margins_hold_what_reproduces_the_paper() -> None:
    """The closed form at the calibration point is within every margin."""
    tpot = {gamma: 1 / PAPER.speedup(gamma) for gamma in range(1, 37)}
    share = {gamma: (expected_tokens(PAPER.alpha, gamma) - 1) / gamma for gamma in tpot}
    figures = {
        "optimum": [tpot[4] / min(tpot.values())],
        "speedup": [PAPER.speedup(4)],
        "below": [tpot[2] / tpot[4], tpot[3] / tpot[4]],
        "above": [tpot[8] / tpot[4], tpot[36] / tpot[4]],
        "acceptance": [share[8] / share[4], share[36] / share[4]],
        "break-even": [PAPER.break_even()],
    }
    margins = {claim.key: margin for claim, margin in MARGINS.items()}
    assert set(figures) == set(margins)
    for key, values in figures.items():
        assert [margins[key].verdict(Interval(value, value, value)) for value in values] == [HOLDS] * len(values), key


def test_repeats_of_server_only_are_compared(one_gamma: Result, tmp_path: Path) -> None:
    """Its first trial of an image is what all others are compared with: it cannot differ, a repeat can."""
    base = one_gamma.baseline(one_gamma.series()[0]).trials
    again = repeats(base)
    assert len(again) == len(base) - one_gamma.images
    assert "server-only's own repeats too (12 of 12)" in judged(one_gamma)["identical"].why
    write_records(tmp_path, [r.replace(identical=False) if r is again[0] else r for r in one_gamma.trials])
    assert judged(load(tmp_path))["identical"].verdict == DIFFERS
    told = summarise(one_gamma.trials)
    assert [(s.method, s.identity) for s in told] == [
        ("server-only", "reference\n12/12 repeats"),
        ("speculative", "12/12"),
    ]


@pytest.mark.parametrize("images", [1, FEWEST_IMAGES - 1])
def test_too_few_images_decide_nothing(make: Make, images: int) -> None:
    """Figures that would decide every claim, over many images: values alone, and why there is no verdict."""
    findings = judged(make(FakeSweep(pairs=(FakePair("small-weak"),), gammas=(1, 2, 4, 8, 28), images=images, noise=0)))
    for key in MEASURED:
        finding = findings[key]
        assert (finding.verdict, finding.interval) == (UNDECIDED, ""), finding
        assert f"{images} image{'s' * (images > 1)}: too few for an interval, which needs at least 10" in finding.why
        assert finding.measured != "-"
        assert "nan" not in finding.measured
    assert set(verdicts(findings, SET_UP).values()) == {UNDECIDED, HOLDS}  # these rest on no image


def test_one_output_that_differs_is_enough_however_few_they_are(make: Make, tmp_path: Path) -> None:
    few = make(FakeSweep(pairs=(FakePair("small-weak"),), gammas=(4,), images=2, co_located=()))
    finding = judged(broken(few, "tie", tmp_path))["identical"]
    assert (finding.verdict, finding.measured, finding.interval) == (DIFFERS, "1 of 2 outputs", "")


def test_one_draft_length_tests_no_curve(one_gamma: Result) -> None:
    findings = judged(one_gamma)
    assert findings["identical"].verdict == HOLDS
    assert set(verdicts(findings, MEASURED[1:]).values()) == {UNDECIDED}
    assert findings["speedup"].measured.endswith("at 4")


def test_short_drafts_leave_break_even_open(make: Make) -> None:
    finding = judged(make(FakeSweep(pairs=(FakePair("small-weak"),), gammas=(1, 2, 4, 8, 12), images=10)))["break-even"]
    assert (finding.verdict, finding.measured) == (UNDECIDED, "> 12")
    assert "longest draft measured is 12" in finding.why


def broken(result: Result, kind: Kind, folder: Path) -> Result:
    """One output that differs."""
    victim = next(r for r in result.trials if r.setting.method is Method.SPECULATIVE)
    mismatch = Mismatch(position=3, expected=5, got=6, margin=1e-5, kind=kind)
    write_records(folder, [r.replace(identical=False, mismatch=mismatch) if r is victim else r for r in result.trials])
    return load(folder)


@pytest.mark.parametrize("kind", ["tie", "defect"])
def test_one_output_that_differs_is_enough(kind: Kind, one_gamma: Result, tmp_path: Path) -> None:
    finding = judged(broken(one_gamma, kind, tmp_path))["identical"]
    assert finding.verdict == DIFFERS
    assert finding.measured == "11 of 12 outputs"
    assert f"1 {kind}" in finding.why
    assert ("rounding" in finding.why) == (kind == "tie")


def test_outputs_not_compared_yet(one_gamma: Result, tmp_path: Path) -> None:
    write_records(tmp_path, [r.replace(identical=None) for r in one_gamma.trials])
    assert judged(load(tmp_path))["identical"].verdict == UNDECIDED


def test_set_up(figure6: Result) -> None:
    findings = judged(figure6)
    assert verdicts(findings, SET_UP) == {"models": UNDECIDED, "data": UNDECIDED, "link": HOLDS}
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
    findings = judged(make(FakeSweep(pairs=(FakePair("small-weak"),), gammas=(4,), images=3, rates=(1e5,))))
    assert findings["link"].verdict == DIFFERS


def test_every_pair_and_link_is_judged(figure6: Result, delays: Result) -> None:
    rows = claims_table(Study(figure6))
    assert len(rows) == len(MEASURED) + 5 + len(SET_UP)
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
