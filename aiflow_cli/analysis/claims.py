"""The paper's claims (arXiv 2411.12469), each beside what was measured: HOLDS, DIFFERS or UNDECIDED HERE, and why.

A verdict is of intervals alone, by the margins of `margins.py`, which are fixed in the program, no option: the
claim holds where the whole interval lies within its margin, differs where the whole interval lies outside, and is
undecided between. Without an interval (too few images, see `intervals.py`) it is undecided too. One output that differs
is enough to say so, however few they are.

Only pairs that are meant to be like the paper's (`like_paper` in the registry) are judged by its figures. Of others the
table tells what they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from aiflow_cli.analysis import margins, metrics
from aiflow_cli.analysis.curves import Curve
from aiflow_cli.analysis.intervals import Interval, known, too_few
from aiflow_cli.analysis.result import Result, link_label, repeats
from aiflow_cli.analysis.study import Study
from aiflow_cli.analysis.theory import BEYOND, NEVER, PAPER, PAPER_OPTIMUM, CostModel, format_break_even
from aiflow_cli.decoding.methods import Method
from aiflow_cli.models.pair import registry
from aiflow_cli.world.record import Trial

PAPER_RATES = (500e3, 2e6)
PAPER_PAIR, PAPER_DATA, PAPER_IMAGES = "internvl2-2b-26b", "vehicles-openimage", 627


class Claim(NamedTuple):
    """What the paper states, and where."""

    key: str
    statement: str
    paper: str
    where: str


IDENTICAL = Claim("identical", "output identical to server-only, token for token", "100 %", "VI-A")
OPTIMUM = Claim("optimum", "TPOT is lowest at draft length 4", "4", "VI-B")
TWICE = Claim("speedup", "about twice as fast as server-only at the optimum", "about 2×", "VI-B")
BELOW = Claim("below", "slightly slower below draft length 4", "slightly slower", "VI-B")
ABOVE = Claim("above", "TPOT rises above draft length 4", "rising", "VI-B")
FALLS = Claim("acceptance", "because acceptance falls with draft length", "falling", "VI-B")
BREAK_EVEN = Claim("break-even", "worse than server-only beyond draft length 22", "22", "VI-B")
MODELS = Claim("models", "InternVL2-2B on an RTX 4090 device, InternVL2-26B on a GPU edge server", "2B and 26B", "VI-A")
DATA = Claim("data", "627 Vehicles-OpenImage photographs", "627", "VI-A")
LINK = Claim("link", "a link of 500 KB/s to 2 MB/s", "0.5 to 2 MB/s", "VI-A")


class Found(NamedTuple):
    """What was found of a claim. `interval` is text, empty where there is none; no verdict: it is only told."""

    measured: str
    interval: str
    verdict: margins.Verdict | None
    why: str


class Finding(NamedTuple):
    """A row of the claims table, `Found` with its claim. `series` is empty for what concerns the whole result."""

    claim: Claim
    series: str
    measured: str
    interval: str
    verdict: margins.Verdict | None
    why: str

    def as_json(self) -> dict[str, Any]:
        """The form of `aiflow report --json`."""
        key, statement, paper, where = self.claim
        return self._asdict() | {"claim": key, "statement": statement, "paper": paper, "where": where}


def claims_table(study: Study) -> list[Finding]:
    """All claims in the paper's order, for every pair and link. Raises UsageError, StoreError as `Study` does."""
    labels = [study.result.label(c.series) if len(study.curves) > 1 else c.series.pair for c in study.curves]
    labelled = list(zip(labels, study.curves, strict=True))
    rows = [Finding(IDENTICAL, label, *_identical(study.result, curve)) for label, curve in labelled]
    for claim, measure in _CURVES.items():
        for label, curve in labelled:
            if like_paper(curve.series.pair):
                rows.append(Finding(claim, label, *_judged(claim, measure(curve), curve)))
            elif claim in _TOLD_OF_OTHERS:
                told = measure(curve)
                why = told.missing or curve.too_few or "told, not judged"
                rows.append(Finding(claim, label, told.measured, told.interval, None, why))
    return [*rows, *(Finding(claim, "", *found) for claim, found in _set_up(study.result))]


def like_paper(pair: str) -> bool:
    """Whether a pair is meant to be like the paper's."""
    return pair in registry() and registry()[pair].like_paper


_TOLD_OF_OTHERS = (OPTIMUM, TWICE, FALLS, BREAK_EVEN)


class Footnotes(NamedTuple):
    """What stands below the table: how verdicts come about, the margins, and why some rows have none."""

    rule: str
    margins: list[str]
    told: str


def footnotes(findings: Sequence[Finding]) -> Footnotes:
    """What is to be said below a table."""
    words = {key: margin.words for key, margin in margins.MARGINS.items()} | {IDENTICAL.key: "every output"}
    claims = dict.fromkeys(f.claim for f in findings if f.verdict and f.claim.key in words)
    told = list(dict.fromkeys(f.series for f in findings if f.verdict is None))
    return Footnotes(
        "A claim HOLDS where the whole interval lies within its margin, DIFFERS where the whole interval lies outside, "
        "and is UNDECIDED HERE otherwise. The margins are fixed in the program, and were before this was measured:",
        [f"{claim.statement}: {words[claim.key]}" for claim in claims],
        f"{margins.listed(told)}: not meant to be like the paper's pair, so what it does is told, not judged."
        if told
        else "",
    )


def _identical(result: Result, curve: Curve) -> Found:
    methods = (Method.SPECULATIVE, Method.CO_LOCATED)
    made = [t for m in methods for g in result.gammas(curve.series, m) for t in result.arm(curve.series, m, g).trials]
    again = [t for t in repeats(result.baseline(curve.series).trials) if t.identical is not None]
    judged = [t for t in made if t.identical is not None]
    if not judged:
        why = "outputs have not been compared yet: they are when the run is complete"
        return Found("-", "", margins.UNDECIDED, why)
    wrong = [t for t in (*judged, *again) if not t.identical]
    images, broken = ({metrics.unit(t).image for t in trials} for trials in (judged, wrong))
    clean = len(images - broken)
    measured = f"{sum(bool(t.identical) for t in judged)} of {len(judged)} outputs"
    few = too_few(len(images))
    interval = "" if few else f"{clean} of {len(images)} images, {_share_interval(clean, len(images))}"
    if wrong:
        return Found(measured, interval, margins.DIFFERS, _mismatches(wrong))
    if few:
        return Found(measured, "", margins.UNDECIDED, few)
    repeated = f"; server-only's own repeats too ({len(again)} of {len(again)})" if again else ""
    unjudged = f"; {len(made) - len(judged)} not compared yet" if len(judged) < len(made) else ""
    return Found(
        measured, interval, margins.HOLDS, f"every draft length, device-edge and co-located{repeated}{unjudged}"
    )


def _share_interval(successes: int, trials: int) -> str:
    """The exact (Clopper-Pearson) 95 % interval of a share."""
    from scipy.stats import binomtest

    ends = binomtest(successes, trials).proportion_ci(0.95, "exact")
    return f"[{100 * ends.low:.1f}, {100 * ends.high:.1f}] %"


def _mismatches(wrong: Sequence[Trial]) -> str:
    kinds = [trial.mismatch.kind if trial.mismatch else "unexplained" for trial in wrong]
    counts = ", ".join(f"{n} {kind}{'s' * (n > 1)}" for kind in sorted(set(kinds)) if (n := kinds.count(kind)))
    ties = "; a tie is two logits that rounding alone can reorder" if "tie" in kinds else ""
    return f"{len(wrong)} differ: {counts}{ties}; the honesty panel lists them"


class _Measured(NamedTuple):
    """What a curve shows of a claim: figures as text, and the intervals that must lie within its margin.

    `missing`: why it shows nothing. `by_the_form`: whether the closed form explains what differs.
    """

    measured: str
    interval: str = ""
    tested: tuple[Interval, ...] = ()
    why: str = ""
    missing: str = ""
    by_the_form: bool = False


def _judged(claim: Claim, found: _Measured, curve: Curve) -> Found:
    """By the margin of the claim."""
    if found.missing:
        return Found(found.measured, found.interval, margins.UNDECIDED, found.missing)
    if few := curve.too_few:
        return Found(found.measured, "", margins.UNDECIDED, few)
    margin = margins.MARGINS[claim.key]
    verdict = margins.worst([margin.verdict(interval) for interval in found.tested])
    form = _by_the_form(curve) if found.by_the_form and verdict != margins.HOLDS else ""
    why = "; ".join(filter(None, (margin.place(found.tested), found.why, form)))
    return Found(found.measured, found.interval, verdict, why)


def _optimum(curve: Curve) -> _Measured:
    gammas, best = curve.gammas, curve.optimum
    measured, interval = f"{best.value:.0f}", margins.ends(best, "{:.0f}".format)
    if PAPER_OPTIMUM not in gammas or not gammas[0] < PAPER_OPTIMUM < gammas[-1]:
        return _Measured(measured, interval, missing="needs draft length 4 and some on either side of it")
    slower = curve.tpot_over_best(PAPER_OPTIMUM)
    why = f"4 is slower than the best by {margins.change(slower.value)} {margins.ends(slower, margins.change)}"
    return _Measured(measured, interval, (slower,), why, by_the_form=True)


def _by_the_form(curve: Curve) -> str:
    """Why optimum and break-even lie where they do, in numbers."""
    share, model = curve.fit.draft_share, curve.fit.model
    here = f"{share.value:.2f} {margins.ends(share, '{:.2f}'.format)} at α {model.alpha:.2f} here"
    there = f"{PAPER.draft_share:.2f} at α {PAPER.alpha:.2f} in the paper's calibration"
    return f"(c + s) / F is {here} and {there}, so the closed form gives {_form(model)} here and {_form(PAPER)} there"


def _form(model: CostModel) -> str:
    return f"optimum {model.optimum()} and break-even {format_break_even(model.break_even())}"


def _twice(curve: Curve) -> _Measured:
    best = curve.best.speedup
    one = "one draft length shows no optimum" if len(curve.gammas) < 2 else ""
    why = f"by decode TPOT; by latency per token {curve.best.speedup_latency:.2f}"
    measured = f"{best.value:.2f}× at {curve.best.gamma}"
    return _Measured(measured, margins.ends(best, "{:.2f}".format), (best,), why, missing=one)


def _below(curve: Curve) -> _Measured:
    below = [gamma for gamma in margins.SLIGHTLY_BELOW if gamma in curve.gammas]
    return _against_4(curve, below, "needs draft length 4, and 2 or 3", "")


def _above(curve: Curve) -> _Measured:
    best = curve.best.gamma
    own = f", after a lower point at {best}" if best > PAPER_OPTIMUM else ""
    longest = [gamma for gamma in curve.gammas[-1:] if gamma > PAPER_OPTIMUM]
    return _against_4(curve, longest, "needs draft length 4 and some above it", own)


def _against_4(curve: Curve, gammas: Sequence[int], needs: str, more: str) -> _Measured:
    """Time per token at some draft lengths against that of 4."""
    if not gammas or PAPER_OPTIMUM not in curve.gammas:
        return _Measured("-", missing=needs)
    ratios = tuple(curve.tpot_ratio(gamma, PAPER_OPTIMUM) for gamma in gammas)
    measured = ", ".join(f"γ {gamma}: {margins.change(r.value)}" for gamma, r in zip(gammas, ratios, strict=True))
    why = f"time per token against that of draft length 4{more}"
    return _Measured(measured, ", ".join(margins.ends(r, margins.change) for r in ratios), ratios, why)


def _acceptance_falls(curve: Curve) -> _Measured:
    if len(curve.points) < 2:
        return _Measured("-", missing="needs two draft lengths or more")
    first, last = (curve.at(PAPER_OPTIMUM) if PAPER_OPTIMUM in curve.gammas[:-1] else curve.points[0]), curve.points[-1]
    a, b = (point.draft_acceptance.times(100) for point in (first, last))
    measured = f"{a.value:.0f} % of drafts at {first.gamma}, {b.value:.0f} % at {last.gamma}"
    interval = ", ".join(filter(None, (margins.ends(share, "{:.0f}".format) for share in (a, b))))
    ratio = known(last.arm.over(first.arm, metrics.draft_acceptance))
    why = f"accepted over drafted, {ratio:.2f} times; position by position it may stay level: see the figure"
    return _Measured(measured, interval, (ratio,), why)


def _break_even(curve: Curve) -> _Measured:
    last, crossing = curve.gammas[-1], curve.break_even
    if len(curve.gammas) < 2:
        return _Measured("-", missing="one draft length shows no break-even")
    measured = format_break_even(crossing.value, last)
    interval = margins.ends(crossing, lambda end: format_break_even(end, last))
    if crossing.high == BEYOND and last < margins.MARGINS["break-even"].high and not curve.too_few:
        return _Measured(measured, interval, missing=f"the longest draft measured is {last}")
    never = "slower than server-only at every draft length measured"
    why = never if crossing.value == NEVER else "where decode TPOT meets that of server-only for good"
    return _Measured(measured, interval, (crossing,), why, by_the_form=True)


_CURVES: dict[Claim, Callable[[Curve], _Measured]] = {
    OPTIMUM: _optimum,
    TWICE: _twice,
    BELOW: _below,
    ABOVE: _above,
    FALLS: _acceptance_falls,
    BREAK_EVEN: _break_even,
}


def _set_up(result: Result) -> Iterator[tuple[Claim, Found]]:
    """The paper's set-up: whether it is this one."""
    gpu = (result.provenance.get("gpu") or {}).get("name")
    cpu = (result.provenance.get("cpu") or {}).get("model", "an unknown processor")
    models: tuple[margins.Verdict, str] = (margins.UNDECIDED, "other models: `aiflow sweep internvl2` runs the paper's")
    if PAPER_PAIR in result.pairs:
        same = (margins.HOLDS, "the same models; the paper names no server GPU")
        models = same if gpu else (margins.DIFFERS, "the same models on a processor")
    yield MODELS, Found(f"{', '.join(result.pairs)} on {gpu or cpu}", "", *models)
    data: tuple[margins.Verdict, str] = (margins.UNDECIDED, "other images")
    if result.data_name == PAPER_DATA:
        data = (
            (margins.HOLDS, "the same photographs")
            if result.images == PAPER_IMAGES
            else (margins.UNDECIDED, "a part of them")
        )
    yield DATA, Found(f"{result.images} of {result.data_name}", "", *data)
    rates = [rate for link in result.links for rate in (link.uplink_bytes_per_s, link.downlink_bytes_per_s)]
    delays = "; the paper names no delay" if any(link.delay_s for link in result.links) else ""
    link: tuple[margins.Verdict, str] = (margins.HOLDS, f"shaped by a token bucket on a real socket{delays}")
    if not all(PAPER_RATES[0] <= rate <= PAPER_RATES[1] for rate in rates):
        link = (margins.DIFFERS, "some rates lie outside")
    yield LINK, Found("; ".join(map(link_label, result.links)), "", *link)
