"""The paper's claims (arXiv 2411.12469), each beside what was measured: HOLDS, DIFFERS or UNDECIDED HERE, and why.

A verdict is of intervals alone, by the margins of `margins.py`, which were fixed before any result was looked at: the claim
holds where the whole interval lies within its margin, differs where the whole interval lies outside, and is undecided
between. Without an interval (too few images, see `intervals.py`) it is undecided too. One output that differs is enough
to say so, however few they are.

Only pairs that are meant to be like the paper's (`like_paper` in the registry) are judged by its figures. Of others the
table tells what they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.curves import Curve
from aiflow_cli.analysis.intervals import known, too_few
from aiflow_cli.analysis.margins import (
    DIFFERS,
    HOLDS,
    MARGINS,
    SLIGHTLY_BELOW,
    UNDECIDED,
    Verdict,
    change,
    ends,
    listed,
    worst,
)
from aiflow_cli.analysis.result import Result, link_label, repeats
from aiflow_cli.analysis.study import Study
from aiflow_cli.analysis.theory import (
    BEYOND,
    NEVER,
    PAPER,
    PAPER_BREAK_EVEN,
    PAPER_OPTIMUM,
    CostModel,
    format_break_even,
)
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
    verdict: Verdict | None
    why: str


@dataclass(frozen=True)
class Finding:
    """A row of the claims table. `series` is empty for what concerns the whole result."""

    claim: Claim
    series: str
    measured: str
    interval: str
    verdict: Verdict | None
    why: str

    def as_json(self) -> dict[str, Any]:
        """The form of `aiflow report --json`."""
        key, statement, paper, where = self.claim
        told = {name: getattr(self, name) for name in ("series", *Found._fields)}
        return {"claim": key, "statement": statement, "paper": paper, "where": where} | told


def claims_table(study: Study) -> list[Finding]:
    """All claims in the paper's order, for every pair and link. Raises UsageError, StoreError as `Study` does."""
    rows = [
        Finding(claim, study.result.label(curve.series) if len(study.curves) > 1 else curve.series.pair, *found)
        for claim, judge in _JUDGES.items()
        for curve in study.curves
        if (found := _of_this_pair(claim, judge(study.result, curve), curve)) is not None
    ]
    return [*rows, *(Finding(claim, "", *found) for claim, found in _set_up(study.result))]


def like_paper(pair: str) -> bool:
    """Whether a pair is meant to be like the paper's."""
    return pair in registry() and registry()[pair].like_paper


_TOLD_OF_OTHERS = (OPTIMUM, TWICE, FALLS, BREAK_EVEN)


def _of_this_pair(claim: Claim, found: Found, curve: Curve) -> Found | None:
    """A pair that is not like the paper's has identity judged, and its own figures told."""
    if claim is IDENTICAL or like_paper(curve.series.pair):
        return found
    if claim not in _TOLD_OF_OTHERS:
        return None
    return Found(found.measured, found.interval, None, curve.too_few or "told, not judged: no pair like the paper's")


class Footnotes(NamedTuple):
    """What stands below the table: how verdicts come about, the margins, and why some rows have none."""

    rule: str
    margins: list[str]
    told: str


def footnotes(findings: Sequence[Finding]) -> Footnotes:
    """What is to be said below a table."""
    claims = dict.fromkeys(f.claim for f in findings if f.verdict and f.claim.key in MARGINS)
    told = list(dict.fromkeys(f.series for f in findings if f.verdict is None))
    return Footnotes(
        "A claim HOLDS where the whole interval lies within its margin, DIFFERS where the whole interval lies outside, "
        "and is UNDECIDED HERE otherwise. The margins were stated before anything was measured:",
        [f"{claim.statement}: {MARGINS[claim.key].words}" for claim in claims],
        f"{listed(told)}: not meant to be like the paper's pair, so what it does is told, not judged." if told else "",
    )


def _identical(result: Result, curve: Curve) -> Found:
    methods = (Method.SPECULATIVE, Method.CO_LOCATED)
    made = [t for m in methods for g in result.gammas(curve.series, m) for t in result.arm(curve.series, m, g).trials]
    again = [t for t in repeats(result.baseline(curve.series).trials) if t.identical is not None]
    judged = [t for t in made if t.identical is not None]
    if not judged:
        why = "outputs have not been compared yet: they are when the run is complete"
        return Found("-", "", UNDECIDED, why)
    wrong = [t for t in (*judged, *again) if not t.identical]
    images, broken = ({metrics.unit(t).image for t in trials} for trials in (judged, wrong))
    clean = len(images - broken)
    measured = f"{sum(bool(t.identical) for t in judged)} of {len(judged)} outputs"
    few = too_few(len(images))
    interval = "" if few else f"{clean} of {len(images)} images, {_share_interval(clean, len(images))}"
    if wrong:
        return Found(measured, interval, DIFFERS, _mismatches(wrong))
    if few:
        return Found(measured, "", UNDECIDED, few)
    repeated = f"; server-only's own repeats too ({len(again)} of {len(again)})" if again else ""
    unjudged = f"; {len(made) - len(judged)} not compared yet" if len(judged) < len(made) else ""
    return Found(measured, interval, HOLDS, f"every draft length, device-edge and co-located{repeated}{unjudged}")


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


def _optimum(_result: Result, curve: Curve) -> Found:
    gammas, best = curve.gammas, curve.optimum
    measured, interval = f"{best.value:.0f}", ends(best, "{:.0f}".format)
    if PAPER_OPTIMUM not in gammas or not gammas[0] < PAPER_OPTIMUM < gammas[-1]:
        return Found(measured, interval, UNDECIDED, "needs draft length 4 and some on either side of it")
    if curve.too_few:
        return Found(measured, "", UNDECIDED, curve.too_few)
    slower = curve.tpot_over_best(PAPER_OPTIMUM)
    verdict = MARGINS["optimum"].verdict(slower)
    why = f"4 is slower than the best by {change(slower.value)} {ends(slower, change)}"
    return Found(measured, interval, verdict, why if verdict == HOLDS else f"{why}; {_by_the_form(curve)}")


def _by_the_form(curve: Curve) -> str:
    """Why optimum and break-even lie where they do, in numbers."""
    fit, alpha = curve.fit, curve.fit.alpha.value
    return (
        f"(c + s) / F is {fit.draft_share.value:.2f} {ends(fit.draft_share, '{:.2f}'.format)} at α {alpha:.2f} here and "
        f"{PAPER.draft_share:.2f} at α {PAPER.alpha:.2f} in the paper's calibration, for which the closed form gives "
        f"{_form(fit.model)} here and {_form(PAPER)} there"
    )


def _form(model: CostModel) -> str:
    return f"optimum {model.optimum()} and break-even {format_break_even(model.break_even())}"


def _twice(_result: Result, curve: Curve) -> Found:
    best, margin = curve.best.speedup, MARGINS["speedup"]
    measured, interval = f"{best.value:.2f}× at {curve.best.gamma}", ends(best, "{:.2f}".format)
    beside = f"by latency per token {curve.best.speedup_latency:.2f}"
    if len(curve.gammas) < 2:
        return Found(measured, interval, UNDECIDED, f"one draft length shows no optimum; {beside}")
    if curve.too_few:
        return Found(measured, "", UNDECIDED, f"{curve.too_few}; {beside}")
    verdict = margin.verdict(best)
    side = "slower" if best.high < margin.low else "faster"
    words = {HOLDS: "decode TPOT", DIFFERS: f"{side} than {margin.low} to {margin.high}"}
    return Found(measured, interval, verdict, f"{words.get(verdict, 'the interval crosses the margin')}; {beside}")


def _below(_result: Result, curve: Curve) -> Found:
    below = [gamma for gamma in SLIGHTLY_BELOW if gamma in curve.gammas]
    if not below or PAPER_OPTIMUM not in curve.gammas:
        return Found("-", "", UNDECIDED, "needs draft length 4, and 2 or 3")
    ratios = [curve.tpot_ratio(gamma, PAPER_OPTIMUM) for gamma in below]
    measured = ", ".join(f"γ {gamma}: {change(r.value)}" for gamma, r in zip(below, ratios, strict=True))
    if curve.too_few:
        return Found(measured, "", UNDECIDED, curve.too_few)
    verdict = worst([MARGINS["below"].verdict(r) for r in ratios])
    words = {HOLDS: "time per token against that of draft length 4", DIFFERS: "more than slightly"}
    if verdict == DIFFERS and any(r.high < MARGINS["below"].low for r in ratios):
        words[DIFFERS] = "not slower: a shorter draft beats 4"
    why = words.get(verdict, "the intervals cross the margin")
    return Found(measured, ", ".join(ends(r, change) for r in ratios), verdict, why)


def _above(_result: Result, curve: Curve) -> Found:
    above = [gamma for gamma in curve.gammas if gamma > PAPER_OPTIMUM]
    if PAPER_OPTIMUM not in curve.gammas or not above:
        return Found("-", "", UNDECIDED, "needs draft length 4 and some above it")
    last = curve.tpot_ratio(above[-1], PAPER_OPTIMUM)
    measured, interval = f"γ {above[-1]}: {change(last.value)}", ends(last, change)
    if curve.too_few:
        return Found(measured, "", UNDECIDED, curve.too_few)
    verdict = MARGINS["above"].verdict(last)
    best = curve.best.gamma
    own = f", after a lower point at {best}" if best > PAPER_OPTIMUM else ""
    return Found(measured, interval, verdict, f"time per token against that of draft length 4{own}")


def _acceptance_falls(_result: Result, curve: Curve) -> Found:
    if len(curve.points) < 2:
        return Found("-", "", UNDECIDED, "needs two draft lengths or more")
    first, last = (curve.at(PAPER_OPTIMUM) if PAPER_OPTIMUM in curve.gammas[:-1] else curve.points[0]), curve.points[-1]
    a, b = first.draft_acceptance, last.draft_acceptance
    measured = f"{100 * a.value:.0f} % of drafts at {first.gamma}, {100 * b.value:.0f} % at {last.gamma}"
    if few := curve.too_few or (None if a.known and b.known else "too few images have drafts for an interval"):
        return Found(measured, "", UNDECIDED, few)
    interval = ", ".join(ends(share.times(100), "{:.0f}".format) for share in (a, b))
    ratio = known(last.arm.over(first.arm, metrics.draft_acceptance))
    why = f"accepted over drafted, {ratio:.2f} times; position by position it may stay level: see the figure"
    return Found(measured, interval, MARGINS["acceptance"].verdict(ratio), why)


def _break_even(_result: Result, curve: Curve) -> Found:
    last, crossing, margin = curve.gammas[-1], curve.break_even, MARGINS["break-even"]
    measured = format_break_even(crossing.value, last)
    interval = ends(crossing, lambda end: format_break_even(end, last))
    if len(curve.gammas) < 2:
        return Found("-", "", UNDECIDED, "one draft length shows no break-even")
    if curve.too_few:
        return Found(measured, "", UNDECIDED, curve.too_few)
    if last < margin.high and crossing.high == BEYOND:
        return Found(measured, interval, UNDECIDED, f"the longest draft measured is {last}")
    verdict = margin.verdict(crossing)
    if verdict == HOLDS:
        return Found(measured, interval, HOLDS, "where decode TPOT meets that of server-only for good")
    sooner = "sooner" if crossing.value < PAPER_BREAK_EVEN else "later"
    told = f"worse than server-only {sooner} than beyond {PAPER_BREAK_EVEN}"
    if crossing.value == NEVER == crossing.high:
        told = "slower than server-only at every draft length measured"
    told = "the interval crosses the margin" if verdict == UNDECIDED else told
    return Found(measured, interval, verdict, f"{told}; {_by_the_form(curve)}")


_JUDGES: dict[Claim, Callable[[Result, Curve], Found]] = {
    IDENTICAL: _identical,
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
    models: tuple[Verdict, str] = (UNDECIDED, "other models: `aiflow sweep internvl2` runs the paper's")
    if PAPER_PAIR in result.pairs:
        same = (HOLDS, "the same models; the paper names no server GPU")
        models = same if gpu else (DIFFERS, "the same models on a processor")
    yield MODELS, Found(f"{', '.join(result.pairs)} on {gpu or cpu}", "", *models)
    data: tuple[Verdict, str] = (UNDECIDED, "other images")
    if result.data_name == PAPER_DATA:
        data = (HOLDS, "the same photographs") if result.images == PAPER_IMAGES else (UNDECIDED, "a part of them")
    yield DATA, Found(f"{result.images} of {result.data_name}", "", *data)
    rates = [rate for link in result.links for rate in (link.uplink_bytes_per_s, link.downlink_bytes_per_s)]
    delays = "; the paper names no delay" if any(link.delay_s for link in result.links) else ""
    link: tuple[Verdict, str] = (HOLDS, f"shaped by a token bucket on a real socket{delays}")
    if not all(PAPER_RATES[0] <= rate <= PAPER_RATES[1] for rate in rates):
        link = (DIFFERS, "some rates lie outside")
    yield LINK, Found("; ".join(map(link_label, result.links)), "", *link)
