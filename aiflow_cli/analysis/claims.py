"""The paper's claims (arXiv 2411.12469; DESIGN.md section 1), each beside what was measured: HOLDS, DIFFERS or NOT TESTED HERE, and why.

A verdict is of the interval, not of the point. Where an interval is too wide to decide, or images are too few for one (see `intervals.py`),
that is NOT TESTED HERE: more images decide it. One output that differs is enough to say so, however few they are.
Assumption: "about twice" is 1.8 to 2.2 times; "beyond 22" is a break-even between 22 and 23; an interval decides an optimum if it spans at most
2 to 8, and a break-even if it spans at most 8 draft lengths.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from aiflow_cli.analysis.curves import NEVER, Curve, format_break_even
from aiflow_cli.analysis.intervals import Interval, too_few
from aiflow_cli.analysis.metrics import Record, unit
from aiflow_cli.analysis.result import CO_LOCATED, SPECULATIVE, Result, Series, compared, link_label
from aiflow_cli.analysis.study import Study
from aiflow_cli.analysis.theory import PAPER_BREAK_EVEN, PAPER_OPTIMUM

Verdict = Literal["HOLDS", "DIFFERS", "NOT TESTED HERE"]
HOLDS: Verdict = "HOLDS"
DIFFERS: Verdict = "DIFFERS"
UNTESTED: Verdict = "NOT TESTED HERE"

ABOUT_TWICE = (1.8, 2.2)
OPTIMUM_SPAN = (2, 8)
BREAK_EVEN_SPAN = 8
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


@dataclass(frozen=True)
class Finding:
    """A row of the claims table. `series` is empty for what concerns the whole result; `interval` is text, empty where there is none."""

    claim: Claim
    series: str
    measured: str
    interval: str
    verdict: Verdict
    why: str

    def as_json(self) -> dict[str, Any]:
        """The form of `aiflow report --json`."""
        told = {name: getattr(self, name) for name in ("series", "measured", "interval", "verdict", "why")}
        return {
            "claim": self.claim.key,
            "statement": self.claim.statement,
            "paper": self.claim.paper,
            "where": self.claim.where,
        } | told


class _Found(NamedTuple):
    measured: str
    interval: str
    verdict: Verdict
    why: str


def claims_table(study: Study) -> list[Finding]:
    """All claims in the paper's order, for every pair and link. Raises UsageError, StoreError where the result cannot be analysed."""
    rows = [
        Finding(claim, _series_label(study, curve.series), *judge(study.result, curve))
        for claim, judge in _JUDGES.items()
        for curve in study.curves
    ]
    return [*rows, *(Finding(claim, "", *found) for claim, found in _set_up(study.result))]


def _series_label(study: Study, series: Series) -> str:
    return study.result.label(series) if len(study.curves) > 1 else series.pair


def _identical(result: Result, curve: Curve) -> _Found:
    records = [
        r
        for m in (SPECULATIVE, CO_LOCATED)
        for g in result.gammas(curve.series, m)
        for r in result.trials(curve.series, m, g)
    ]
    judged = compared(records)
    if not judged:
        return _Found("-", "", UNTESTED, "outputs have not been compared yet: they are when the run is complete")
    wrong = [r for r in judged if not r["identical"]]
    images = {unit(r) for r in judged}
    clean = len(images) - len({unit(r) for r in wrong})
    measured = f"{len(judged) - len(wrong)} of {len(judged)} outputs"
    few = too_few(len(images))
    interval = "" if few else f"{clean} of {len(images)} images, {_share_interval(clean, len(images))}"
    if few and not wrong:
        return _Found(measured, "", UNTESTED, few)
    if not wrong:
        unjudged = f"; {len(records) - len(judged)} not compared yet" if len(judged) < len(records) else ""
        return _Found(measured, interval, HOLDS, f"every draft length, device-edge and co-located{unjudged}")
    return _Found(measured, interval, DIFFERS, _mismatches(wrong))


def _share_interval(successes: int, trials: int) -> str:
    """The exact (Clopper-Pearson) 95 % interval of a share."""
    from scipy.stats import binomtest

    ends = binomtest(successes, trials).proportion_ci(0.95, "exact")
    return f"[{100 * ends.low:.1f}, {100 * ends.high:.1f}] %"


def _mismatches(wrong: Sequence[Record]) -> str:
    kinds = [(r.get("mismatch") or {}).get("kind", "unexplained") for r in wrong]
    counts = ", ".join(
        f"{kinds.count(kind)} {kind}{'s' if kinds.count(kind) > 1 else ''}" for kind in sorted(set(kinds))
    )
    ties = "; a tie is two logits that rounding alone can reorder" if "tie" in kinds else ""
    return f"{len(wrong)} differ: {counts}{ties}; the honesty panel lists them"


def _optimum(_result: Result, curve: Curve) -> _Found:
    gammas, best = curve.gammas, curve.optimum
    measured, interval = f"{best.value:.0f}", _ends(best, "{:.0f}".format)
    if PAPER_OPTIMUM not in gammas or not gammas[0] < PAPER_OPTIMUM < gammas[-1]:
        return _Found(measured, "", UNTESTED, "needs draft length 4 and some on either side of it")
    if curve.too_few:
        return _Found(measured, "", UNTESTED, curve.too_few)
    if not best.low <= PAPER_OPTIMUM <= best.high:
        share = curve.tpot_ratio(PAPER_OPTIMUM, int(best.value))
        why = f"draft length 4 takes {_percent(share)} the time per token of {best.value:.0f}"
        return _Found(measured, interval, DIFFERS, why)
    if best.low < OPTIMUM_SPAN[0] or best.high > OPTIMUM_SPAN[1]:
        return _Found(measured, interval, UNTESTED, "the interval is too wide to tell: more images")
    why = "4 lies in the interval" if best.value != PAPER_OPTIMUM else "the lowest decode TPOT"
    return _Found(measured, interval, HOLDS, why)


def _ends(interval: Interval, write: Callable[[float], str]) -> str:
    """The ends in brackets; nothing where there is no interval."""
    return f"[{write(interval.low)}, {write(interval.high)}]" if interval.known else ""


def _percent(ratio: Interval) -> str:
    return f"{100 * ratio.value:.0f} % [{100 * ratio.low:.0f}, {100 * ratio.high:.0f}] of"


def _twice(_result: Result, curve: Curve) -> _Found:
    best = curve.best.speedup
    measured, interval = f"{best.value:.2f}× at {curve.best.gamma}", _ends(best, "{:.2f}".format)
    low, high = ABOUT_TWICE
    beside = f"by latency per token {curve.best.speedup_latency:.2f}"
    if len(curve.gammas) < 2:
        return _Found(measured, interval, UNTESTED, f"one draft length shows no optimum; {beside}")
    if curve.too_few:
        return _Found(measured, "", UNTESTED, f"{curve.too_few}; {beside}")
    if best.high < low or best.low > high:
        why = f"{'slower' if best.high < low else 'faster'} than {low} to {high}; {beside}"
        return _Found(measured, interval, DIFFERS, why)
    if not low <= best.value <= high or best.high - best.low > 2 * (high - low):
        why = f"the interval is too wide to tell from {low} to {high}: more images; {beside}"
        return _Found(measured, interval, UNTESTED, why)
    return _Found(measured, interval, HOLDS, f"decode TPOT, within {low} to {high}; {beside}")


def _below(_result: Result, curve: Curve) -> _Found:
    below = [gamma for gamma in curve.gammas if gamma < PAPER_OPTIMUM]
    if not below or PAPER_OPTIMUM not in curve.gammas:
        return _Found("-", "", UNTESTED, "needs draft length 4 and some below it")
    ratios = {gamma: curve.tpot_ratio(gamma, PAPER_OPTIMUM) for gamma in below}
    measured = ", ".join(f"γ {gamma}: {_change(r.value)}" for gamma, r in ratios.items())
    if curve.too_few:
        return _Found(measured, "", UNTESTED, curve.too_few)
    interval = ", ".join(_ends(r, _change) for r in ratios.values())
    faster = [gamma for gamma, r in ratios.items() if r.high < 1]
    if faster:
        why = f"draft length {_listed(faster)} beat{'s' if len(faster) == 1 else ''} 4"
        return _Found(measured, interval, DIFFERS, why)
    if not any(r.low > 1 for r in ratios.values()):
        return _Found(measured, interval, UNTESTED, "no difference to 4 stands out of the intervals: more images")
    return _Found(measured, interval, HOLDS, "time per token against that of draft length 4")


def _change(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f} %"


def _listed(values: Sequence[object]) -> str:
    return " and ".join(filter(None, (", ".join(map(str, values[:-1])), str(values[-1]))))


def _above(_result: Result, curve: Curve) -> _Found:
    above = [gamma for gamma in curve.gammas if gamma >= PAPER_OPTIMUM]
    if PAPER_OPTIMUM not in curve.gammas or len(above) < 2:
        return _Found("-", "", UNTESTED, "needs draft length 4 and some above it")
    last = curve.tpot_ratio(above[-1], PAPER_OPTIMUM)
    measured, interval = f"γ {above[-1]}: {_change(last.value)}", _ends(last, _change)
    if curve.too_few:
        return _Found(measured, "", UNTESTED, curve.too_few)
    falls = _falls(curve, above)
    if falls or last.high < 1:
        where = (
            f"falls from {_listed([f'{a} to {b}' for a, b in falls])}" if falls else f"draft length {above[-1]} beats 4"
        )
        return _Found(measured, interval, DIFFERS, f"{where}; {_after_its_optimum(curve)}")
    if last.low <= 1:
        return _Found(measured, interval, UNTESTED, "no rise stands out of the intervals: more images")
    why = "time per token against that of draft length 4; no step falls by more than its interval"
    return _Found(measured, interval, HOLDS, why)


def _falls(curve: Curve, gammas: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbours between which time per token falls, its whole interval below 1."""
    return [(a, b) for a, b in itertools.pairwise(gammas) if curve.tpot_ratio(b, a).high < 1]


def _after_its_optimum(curve: Curve) -> str:
    rest = [gamma for gamma in curve.gammas if gamma >= curve.best.gamma]
    if len(rest) < 2:
        return f"its own optimum {curve.best.gamma} is the longest draft measured"
    again = _falls(curve, rest)
    return f"after its own optimum {curve.best.gamma} it {'falls again' if again else 'does not fall again'}"


def _acceptance_falls(_result: Result, curve: Curve) -> _Found:
    if len(curve.points) < 2:
        return _Found("-", "", UNTESTED, "needs two draft lengths or more")
    first = curve.at(PAPER_OPTIMUM) if PAPER_OPTIMUM in curve.gammas[:-1] else curve.points[0]
    a, b = first.draft_acceptance, curve.points[-1].draft_acceptance
    measured = f"{100 * a.value:.0f} % of drafts at {first.gamma}, {100 * b.value:.0f} % at {curve.gammas[-1]}"
    if few := curve.too_few or (None if a.known and b.known else "too few images have drafts for an interval"):
        return _Found(measured, "", UNTESTED, few)
    interval = ", ".join(_ends(share.times(100), "{:.0f}".format) for share in (a, b))
    if b.high < a.low:
        why = "accepted over drafted; position by position it may stay level: see the figure"
        return _Found(measured, interval, HOLDS, why)
    if b.low > a.high:
        return _Found(measured, interval, DIFFERS, "longer drafts are accepted more often")
    return _Found(measured, interval, UNTESTED, "the intervals overlap: more images")


def _break_even(_result: Result, curve: Curve) -> _Found:
    last, crossing = curve.gammas[-1], curve.break_even
    measured = format_break_even(crossing.value, last)
    interval = _ends(crossing, lambda end: format_break_even(end, last))
    if len(curve.gammas) < 2:
        return _Found("-", "", UNTESTED, "one draft length shows no break-even")
    if curve.too_few:
        return _Found(measured, "", UNTESTED, curve.too_few)
    if last <= PAPER_BREAK_EVEN and math.isinf(crossing.high):
        return _Found(measured, interval, UNTESTED, f"the longest draft measured is {last}")
    if crossing.low > PAPER_BREAK_EVEN + 1 or crossing.high < PAPER_BREAK_EVEN:
        sooner = "sooner" if crossing.high < PAPER_BREAK_EVEN else "later"
        why = f"worse than server-only {sooner} than beyond {PAPER_BREAK_EVEN}"
        never = crossing.value == NEVER == crossing.high
        return _Found(
            measured, interval, DIFFERS, "slower than server-only at every draft length measured" if never else why
        )
    if crossing.high - crossing.low > BREAK_EVEN_SPAN:
        why = "22 lies in the interval, which is too wide to tell: more images, longer drafts"
        return _Found(measured, interval, UNTESTED, why)
    return _Found(measured, interval, HOLDS, "where decode TPOT meets that of server-only, the interval meets 22 to 23")


_JUDGES: dict[Claim, Callable[[Result, Curve], _Found]] = {
    IDENTICAL: _identical,
    OPTIMUM: _optimum,
    TWICE: _twice,
    BELOW: _below,
    ABOVE: _above,
    FALLS: _acceptance_falls,
    BREAK_EVEN: _break_even,
}


def _set_up(result: Result) -> Iterator[tuple[Claim, _Found]]:
    """The paper's set-up: whether it is this one."""
    gpu = (result.provenance.get("gpu") or {}).get("name")
    cpu = (result.provenance.get("cpu") or {}).get("model", "an unknown processor")
    pairs = ", ".join(result.pairs)
    if PAPER_PAIR in result.pairs and gpu:
        yield MODELS, _Found(f"{pairs} on {gpu}", "", HOLDS, "the same models; the paper names no server GPU")
    elif PAPER_PAIR in result.pairs:
        yield MODELS, _Found(f"{pairs} on {cpu}", "", DIFFERS, "the same models on a processor")
    else:
        yield (
            MODELS,
            _Found(f"{pairs} on {gpu or cpu}", "", UNTESTED, "other models: `aiflow sweep internvl2` runs the paper's"),
        )
    images = len({record["image_id"] for record in result.records})
    measured = f"{images} of {result.data_name}"
    if result.data_name == PAPER_DATA and images == PAPER_IMAGES:
        yield DATA, _Found(measured, "", HOLDS, "the same photographs")
    else:
        yield (
            DATA,
            _Found(measured, "", UNTESTED, "a part of them" if result.data_name == PAPER_DATA else "other images"),
        )
    inside = all(
        _in_range(rate) for link in result.links for rate in (link.uplink_bytes_per_s, link.downlink_bytes_per_s)
    )
    delays = any(link.delay_s for link in result.links)
    why = "shaped by a token bucket on a real socket" + ("; the paper names no delay" if delays else "")
    measured = "; ".join(map(link_label, result.links))
    yield LINK, _Found(measured, "", HOLDS if inside else DIFFERS, why if inside else "some rates lie outside")


def _in_range(rate: float) -> bool:
    return PAPER_RATES[0] <= rate <= PAPER_RATES[1]
