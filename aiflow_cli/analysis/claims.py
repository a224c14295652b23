"""The paper's claims, each beside what was measured: HOLDS, DIFFERS or UNDECIDED HERE, and why.

A verdict is of intervals alone, by the margins of `margins.py`, which are fixed in the program, no option: the
claim holds where the whole interval lies within its margin, differs where the whole interval lies outside, and is
undecided between. Without an interval (too few images, see `intervals.py`) it is undecided too. One output that differs
is enough to say so, however few they are.

Only pairs that are meant to be like the paper's (`like_paper` in the registry) are judged by its figures. Of others the
table tells what they do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from aiflow_cli.analysis import margins, metrics
from aiflow_cli.analysis.curves import Curve
from aiflow_cli.analysis.intervals import Interval, too_few
from aiflow_cli.analysis.margins import DIFFERS, HOLDS, UNDECIDED, Claim, Verdict, change, ends
from aiflow_cli.analysis.result import Result, link_label, repeats
from aiflow_cli.analysis.study import Study
from aiflow_cli.analysis.theory import BEYOND, NEVER, PAPER, PAPER_OPTIMUM, CostModel, format_break_even
from aiflow_cli.decoding.methods import Method
from aiflow_cli.models.pair import registry

PAPER_RATES = (500e3, 2e6)
PAPER_PAIR, PAPER_DATA, PAPER_IMAGES = "internvl2-2b-26b", "vehicles-openimage", 627


class Finding(NamedTuple):
    """A row of the claims table. `series` is empty for what concerns the whole result; no verdict: it is only told."""

    claim: Claim
    series: str
    measured: str
    interval: str
    verdict: Verdict | None
    why: str

    def as_json(self) -> dict[str, Any]:
        """The form of `aiflow report --json`."""
        told = self._asdict() | self.claim._asdict()
        return told | {"claim": told.pop("key")}


class _Shown(NamedTuple):
    """What a curve shows of a claim: as text, and the intervals that must lie within its margin; or what is missing."""

    measured: str
    interval: str = ""
    tested: tuple[Interval, ...] = ()
    why: str = ""
    missing: str = ""


def claims_table(study: Study) -> list[Finding]:
    """All claims in the paper's order, for every pair and link. Raises UsageError, StoreError as `Study` does."""
    several = len(study.curves) > 1
    labelled = [(study.result.label(c.series) if several else c.series.pair, c) for c in study.curves]
    alike = {name for name, pair in registry().items() if pair.like_paper}
    rows = [_identical(study.result, label, curve) for label, curve in labelled]
    for claim, measure in _CURVES.items():
        for label, curve in labelled:
            if curve.series.pair in alike:
                rows.append(_judged(claim, label, curve, measure(curve)))
            elif claim in _TOLD_OF_OTHERS:
                told = measure(curve)
                why = told.missing or curve.too_few or "told, not judged"
                rows.append(Finding(claim, label, told.measured, told.interval, None, why))
    return [*rows, *_set_up(study.result)]


def footnotes(findings: Sequence[Finding]) -> dict[str, str | list[str]]:
    """What stands below the table: how verdicts come about (`rule`), the margins, why some rows have none (`told`)."""
    words = {margins.IDENTICAL: "every output"} | {claim: margin.words for claim, margin in margins.MARGINS.items()}
    judged = dict.fromkeys(f.claim for f in findings if f.verdict and f.claim in words)
    *first, last = dict.fromkeys(f.series for f in findings if f.verdict is None) or [""]
    told = f"{', '.join(first)} and {last}" if first else last
    return {
        "rule": "A claim HOLDS where the whole interval lies within its margin, DIFFERS where the whole interval lies "
        "outside, and is UNDECIDED HERE otherwise. The margins are fixed in the program, and were before this was "
        "measured:",
        "margins": [f"{claim.statement}: {words[claim]}" for claim in judged],
        "told": f"{told}: not meant to be like the paper's pair, so what it does is told, not judged." if told else "",
    }


def _identical(result: Result, label: str, curve: Curve) -> Finding:
    from scipy.stats import binomtest

    methods = (Method.SPECULATIVE, Method.CO_LOCATED)
    made = [t for m in methods for g in result.gammas(curve.series, m) for t in result.arm(curve.series, m, g).trials]
    again = [t for t in repeats(result.baseline(curve.series).trials) if t.identical is not None]
    judged = [t for t in made if t.identical is not None]
    wrong = [t for t in (*judged, *again) if not t.identical]
    images, broken = ({metrics.unit(t).image for t in trials} for trials in (judged, wrong))
    measured, interval = f"{sum(bool(t.identical) for t in judged)} of {len(judged)} outputs", ""
    if not (few := too_few(len(images))):
        right = len(images - broken)
        low, high = binomtest(right, len(images)).proportion_ci(0.95, "exact")  # Clopper-Pearson
        interval = f"{right} of {len(images)} images, [{100 * low:.1f}, {100 * high:.1f}] %"
    verdict, why = HOLDS, "every draft length, device-edge and co-located"
    if not judged:
        measured, verdict = "-", UNDECIDED
        why = "outputs have not been compared yet: they are when the run is complete"
    elif wrong:
        kinds = Counter(trial.mismatch.kind if trial.mismatch else "unexplained" for trial in wrong)
        counts = ", ".join(f"{n} {kind}{'s' * (n > 1)}" for kind, n in sorted(kinds.items()))
        ties = "; a tie is two logits that rounding alone can reorder" if kinds["tie"] else ""
        verdict, why = DIFFERS, f"{len(wrong)} differ: {counts}{ties}; the honesty panel lists them"
    elif few:
        verdict, why = UNDECIDED, few
    else:
        why += f"; server-only's own repeats too ({len(again)} of {len(again)})" if again else ""
        why += f"; {len(made) - len(judged)} not compared yet" if len(judged) < len(made) else ""
    return Finding(margins.IDENTICAL, label, measured, interval, verdict, why)


def _judged(claim: Claim, label: str, curve: Curve, shown: _Shown) -> Finding:
    """By the margin of the claim."""
    if shown.missing:
        return Finding(claim, label, shown.measured, shown.interval, UNDECIDED, shown.missing)
    if curve.too_few:
        return Finding(claim, label, shown.measured, "", UNDECIDED, curve.too_few)
    margin = margins.MARGINS[claim]
    verdict = margin.verdict(*shown.tested)
    explained = claim in (margins.OPTIMUM, margins.BREAK_EVEN) and verdict != HOLDS
    reasons = (margin.place(*shown.tested), shown.why, _by_the_form(curve) if explained else "")
    return Finding(claim, label, shown.measured, shown.interval, verdict, "; ".join(filter(None, reasons)))


def _by_the_form(curve: Curve) -> str:
    """Why optimum and break-even lie where they do, in numbers."""

    def form(model: CostModel) -> str:
        return f"optimum {model.optimum()} and break-even {format_break_even(model.break_even())}"

    share, model = curve.fit.draft_share, curve.fit.model
    here = f"{share.value:.2f} {ends(share, '{:.2f}'.format)} at α {model.alpha:.2f} here"
    there = f"{PAPER.draft_share:.2f} at α {PAPER.alpha:.2f} in the paper's calibration"
    return f"(c + s) / F is {here} and {there}, so the closed form gives {form(model)} here and {form(PAPER)} there"


def _optimum(curve: Curve) -> _Shown:
    gammas, best = curve.gammas, curve.optimum
    measured, interval = f"{best.value:.0f}", ends(best, "{:.0f}".format)
    if PAPER_OPTIMUM not in gammas[1:-1]:
        return _Shown(measured, interval, missing="needs draft length 4 and some on either side of it")
    slower = curve.tpot_ratio(PAPER_OPTIMUM)
    why = f"4 is slower than the best by {change(slower.value)} {ends(slower, change)}"
    return _Shown(measured, interval, (slower,), why)


def _twice(curve: Curve) -> _Shown:
    best = curve.best.speedup
    missing = "one draft length shows no optimum" if len(curve.gammas) < 2 else ""
    why = f"by decode TPOT; by latency per token {curve.best.speedup_latency:.2f}"
    return _Shown(f"{best.value:.2f}× at {curve.best.gamma}", ends(best, "{:.2f}".format), (best,), why, missing)


def _below(curve: Curve) -> _Shown:
    """Time per token at 2 and 3 against that of 4."""
    below = [gamma for gamma in margins.SLIGHTLY_BELOW if gamma in curve.gammas]
    return _against_4(curve, below, "needs draft length 4, and 2 or 3")


def _above(curve: Curve) -> _Shown:
    best = curve.best.gamma
    longest = [gamma for gamma in curve.gammas[-1:] if gamma > PAPER_OPTIMUM]
    shown = _against_4(curve, longest, "needs draft length 4 and some above it")
    return shown._replace(why=f"{shown.why}, after a lower point at {best}") if best > PAPER_OPTIMUM else shown


def _against_4(curve: Curve, gammas: Sequence[int], needs: str) -> _Shown:
    if not gammas or PAPER_OPTIMUM not in curve.gammas:
        return _Shown("-", missing=needs)
    ratios = tuple(curve.tpot_ratio(gamma, PAPER_OPTIMUM) for gamma in gammas)
    measured = ", ".join(f"γ {gamma}: {change(r.value)}" for gamma, r in zip(gammas, ratios, strict=True))
    interval = ", ".join(ends(ratio, change) for ratio in ratios)
    return _Shown(measured, interval, ratios, "time per token against that of draft length 4")


def _acceptance_falls(curve: Curve) -> _Shown:
    if len(curve.points) < 2:
        return _Shown("-", missing="needs two draft lengths or more")
    first, last = (curve.at(PAPER_OPTIMUM) if PAPER_OPTIMUM in curve.gammas[:-1] else curve.points[0]), curve.points[-1]
    a, b = (point.arm.interval(metrics.draft_acceptance).times(100) for point in (first, last))
    measured = f"{a.value:.0f} % of drafts at {first.gamma}, {b.value:.0f} % at {last.gamma}"
    interval = ", ".join(filter(None, (ends(share, "{:.0f}".format) for share in (a, b))))
    ratio = last.arm.over(first.arm, metrics.draft_acceptance)
    why = f"accepted over drafted, {ratio:.2f} times; position by position it may stay level: see the figure"
    return _Shown(measured, interval, (ratio,), why)


def _break_even(curve: Curve) -> _Shown:
    last, crossing = curve.gammas[-1], curve.break_even
    if len(curve.gammas) < 2:
        return _Shown("-", missing="one draft length shows no break-even")
    measured = format_break_even(crossing.value, last)
    interval = ends(crossing, lambda end: format_break_even(end, last))
    if crossing.high == BEYOND and last < margins.MARGINS[margins.BREAK_EVEN].high:
        return _Shown(measured, interval, missing=f"the longest draft measured is {last}")
    never = "slower than server-only at every draft length measured"
    why = never if crossing.value == NEVER else "where decode TPOT meets that of server-only for good"
    return _Shown(measured, interval, (crossing,), why)


_CURVES: dict[Claim, Callable[[Curve], _Shown]] = {
    margins.OPTIMUM: _optimum,
    margins.TWICE: _twice,
    margins.BELOW: _below,
    margins.ABOVE: _above,
    margins.FALLS: _acceptance_falls,
    margins.BREAK_EVEN: _break_even,
}
_TOLD_OF_OTHERS = (margins.OPTIMUM, margins.TWICE, margins.FALLS, margins.BREAK_EVEN)


def _set_up(result: Result) -> Iterator[Finding]:
    """The paper's set-up: whether it is this one."""
    gpu = (result.provenance.get("gpu") or {}).get("name")
    cpu = (result.provenance.get("cpu") or {}).get("model", "an unknown processor")
    verdict, why = UNDECIDED, "other models: `aiflow sweep internvl2` runs the paper's"
    if PAPER_PAIR in result.pairs:
        verdict = HOLDS if gpu else DIFFERS
        why = "the same models; the paper names no server GPU" if gpu else "the same models on a processor"
    yield Finding(margins.MODELS, "", f"{', '.join(result.pairs)} on {gpu or cpu}", "", verdict, why)
    same, whole = result.data_name == PAPER_DATA, result.images == PAPER_IMAGES
    verdict = HOLDS if same and whole else UNDECIDED
    why = "other images" if not same else "the same photographs" if whole else "a part of them"
    yield Finding(margins.DATA, "", f"{result.images} of {result.data_name}", "", verdict, why)
    rates = [rate for link in result.links for rate in (link.uplink_bytes_per_s, link.downlink_bytes_per_s)]
    within = all(PAPER_RATES[0] <= rate <= PAPER_RATES[1] for rate in rates)
    delays = "; the paper names no delay" if any(link.delay_s for link in result.links) else ""
    why = f"shaped by a token bucket on a real socket{delays}" if within else "some rates lie outside"
    verdict = HOLDS if within else DIFFERS
    yield Finding(margins.LINK, "", "; ".join(map(link_label, result.links)), "", verdict, why)
