"""The report of a result: the paper's claims beside what was measured, fit, figures, captions, honesty, provenance.

Markdown (with the figures beside it) and one HTML page that holds everything in itself: no script, no font, no picture
is fetched.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiflow_cli.analysis import theory
from aiflow_cli.analysis.captions import MarkedCaption, marked_captions
from aiflow_cli.analysis.claims import Finding, claims_table, footnotes
from aiflow_cli.analysis.curves import Curve
from aiflow_cli.analysis.figures.plotting import Plan, plan
from aiflow_cli.analysis.figures.style import Drawing, styled, write_drawing
from aiflow_cli.analysis.honesty import examine, small_pair_on_photographs
from aiflow_cli.analysis.intervals import Interval
from aiflow_cli.analysis.margins import DIFFERS, HOLDS, UNDECIDED
from aiflow_cli.analysis.metrics import FORMULAS
from aiflow_cli.analysis.result import Result, link_label, mismatched
from aiflow_cli.analysis.study import Study
from aiflow_cli.text import SPELT_OUT
from aiflow_cli.trials.identity import describe
from aiflow_cli.trials.store import make_folder, owned, replace_file
from aiflow_cli.world.record import Trial

if TYPE_CHECKING:
    from jinja2 import Environment

CAPTIONS = 4
MOST_LISTED = 20
"""Outliers and mismatches listed one by one; the rest are counted."""
Show = Callable[[int, int], None]


@dataclass(frozen=True)
class Written:
    """A report on the disk, and its claims."""

    markdown: Path
    html: Path
    figures: list[Path]
    claims: list[Finding]
    skipped: list[tuple[str, str]]


def write_report(result: Result, folder: Path | None = None, show: Show = lambda done, total: None) -> Written:
    """Write `report.md`, `report.html` and `figures/` into `folder` (its own). `show` gets steps done of all.

    Raises UsageError without server-only or speculative trials, StoreError where it cannot be analysed or written.
    """
    study = Study(result)
    claims, planned = claims_table(study), plan(study)
    target = make_folder(folder or result.folder)
    with owned(make_folder(target / "figures")):
        return _write(study, claims, planned, target, show)


def _write(study: Study, claims: list[Finding], planned: Plan, target: Path, show: Show) -> Written:
    result, figures, total = study.result, target / "figures", len(planned.figures) + 2
    drawings: list[tuple[Drawing, str]] = []
    paths: list[Path] = []
    for done, one in enumerate(planned.figures):
        show(done, total)
        with styled():
            drawing = one.draw()
            paths += write_drawing(drawing, figures, result.run_id, result.commit)
        drawings.append((drawing, data_uri("image/svg+xml", (figures / f"{drawing.name}.svg").read_bytes())))
    show(total - 2, total)
    context = report_context(study, claims) | {"drawings": drawings, "skipped": planned.skipped}
    show(total - 1, total)
    written = Written(target / "report.md", target / "report.html", paths, claims, planned.skipped)
    environment = _environment()
    for path in (written.markdown, written.html):
        replace_file(path, environment.get_template(path.name).render(context).encode("utf-8", SPELT_OUT))
    show(total, total)
    return written


def data_uri(kind: str, data: bytes) -> str:
    """Bytes within a page."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def report_context(study: Study, claims: list[Finding]) -> dict[str, Any]:
    """What the templates show beside the figures, computed once for both."""
    result, honesty = study.result, examine(study)
    wrong = mismatched(result.trials)
    few = study.main.too_few
    return {
        "result": result,
        "title": f"{result.document.get('name', 'result')}: {', '.join(result.pairs)}",
        "summary": summary(study, claims),
        "brackets": f"Values have no intervals ({few})." if few else f"Values in brackets are {study.about_intervals}.",
        "claims": claims,
        "footnotes": footnotes(claims),
        "counts": {verdict: sum(f.verdict == verdict for f in claims) for verdict in (HOLDS, DIFFERS, UNDECIDED)},
        "fits": [*map(_fit_column, study.curves), _paper_column()],
        "captions": [(caption, _picture(caption)) for caption in marked_captions(study, CAPTIONS)],
        "wrong_captions": small_pair_on_photographs(study),
        "honesty": honesty,
        "outliers": honesty.outliers[:MOST_LISTED],
        "more_outliers": len(honesty.outliers[MOST_LISTED:]),
        "mismatches": [_describe(trial) for trial in wrong[:MOST_LISTED]],
        "more_mismatches": len(wrong[MOST_LISTED:]),
        "formulas": FORMULAS,
        "provenance": provenance_rows(result),
        "panel": [
            (
                "Slower than expected",
                honesty.slower,
                "Nothing: no draft length is slower than server-only, and no baseline beats device-edge.",
            ),
            ("Drift", honesty.drift, "Not examined."),
            ("To keep in mind", honesty.notes, "Nothing in the set-up bears on the figures."),
        ],
    }


def _picture(caption: MarkedCaption) -> str | None:
    return None if caption.picture is None else data_uri("image/jpeg", caption.picture)


def _describe(trial: Trial) -> str:
    return describe(trial) if trial.mismatch else f"{trial.trial}: not explained yet"


def summary(study: Study, claims: list[Finding]) -> str:
    """The result in two sentences."""
    result, curve = study.result, study.main
    best, base = curve.best, curve.baseline
    held, differ, open_ = (sum(f.verdict == verdict for f in claims) for verdict in (HOLDS, DIFFERS, UNDECIDED))
    links = "; ".join(map(link_label, result.links))
    return (
        f"{len(result.trials)} trials over {result.images} images ({result.data_name}), {links}. "
        f"With {curve.series.pair}, device-edge speculation is {best.speedup:.2f} times as fast as server-only at "
        f"draft length {best.gamma} ({best.decode_tpot_ms.value:.2f} against {base.decode_tpot_ms.value:.2f} ms decode "
        f"TPOT). Of the paper's claims, judged here: {held} {HOLDS}, {differ} {DIFFERS}, {open_} {UNDECIDED}."
    )


class FitColumn(NamedTuple):
    """The closed form's numbers of one series, as text."""

    series: str
    rows: dict[str, str]


_FIT_ROWS = (
    "α, acceptance",
    "accepted / judged drafts",
    "c, a draft step",
    "F, the rest of a round",
    "s, a further draft's share in it",
    "(c + s) / F",
    "F + 4 s, a round of four",
    "server-only step",
    "by the form: optimum, speed-up, break-even",
    "measured: optimum, speed-up, break-even",
)


def _fit_column(curve: Curve) -> FitColumn:
    """The fitted numbers of a curve."""
    fit, best, longest = curve.fit, curve.best, curve.gammas[-1]
    end = theory.format_break_even(curve.break_even.value, longest)
    texts = (
        interval_text(fit.alpha, 3),
        interval_text(fit.accepted_share, 3),
        interval_text(fit.draft_cost, 3),
        interval_text(fit.round_cost, 3),
        interval_text(fit.verify_slope, 4),
        interval_text(fit.draft_share, 3),
        f"{fit.round_cost.value + 4 * fit.verify_slope.value:.3f}",
        f"{fit.step_ms:.2f} ms",
        _predicted(fit.model, longest),
        f"{best.gamma}, {best.speedup.value:.2f}×, {end}",
    )
    return FitColumn(curve.label, dict(zip(_FIT_ROWS, texts, strict=True)))


def _paper_column() -> FitColumn:
    """The numbers that reproduce the paper's figures."""
    paper = theory.PAPER
    costs = (f"{paper.draft_cost:.2f}", f"{paper.round_cost:.2f}", "0", f"{paper.draft_share:.2f}")
    ends = (f"{paper.round_cost:.2f}", "-", _predicted(paper, theory.LONGEST_DRAFT), "4, about 2×, 22 (stated)")
    texts = (f"{paper.alpha:.2f}", "-", *costs, *ends)
    return FitColumn("fits the paper (no measurement)", dict(zip(_FIT_ROWS, texts, strict=True)))


def _predicted(model: theory.CostModel, longest: int) -> str:
    best = model.optimum(longest)
    return f"{best}, {model.speedup(best):.2f}×, {theory.format_break_even(model.break_even())}"


def interval_text(interval: Interval | None, digits: int = 2) -> str:
    """`1.82 [1.72, 1.92]`, `1.82` where there is no interval, `-` where nothing is defined."""
    return "-" if interval is None else f"{interval:z.{digits}f}"


def provenance_rows(result: Result) -> list[tuple[str, str]]:
    """Where the result comes from, a line each; what is not known is left out."""
    p, data = result.provenance, result.told("data")
    cpu, gpu, git = p.get("cpu") or {}, p.get("gpu") or {}, p.get("git") or {}
    dirty = ", with uncommitted changes" if git.get("dirty") else ""
    print_ = str(data.get("fingerprint", "?"))[:16]
    rows = [
        ("result", result.run_id),
        ("command", " ".join(map(str, p.get("command") or []))),
        ("began, ended", f"{p.get('started_at', '?')}, {p.get('finished_at') or 'not finished'}"),
        ("code", f"{git['revision']}{dirty}" if git.get("revision") else ""),
        ("aiflow, Python", f"{p.get('aiflow', '?')}, {p.get('python', '?')}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in (p.get("packages") or {}).items() if version)),
        ("processor", f"{cpu.get('model', '?')}, {cpu.get('usable_cores', '?')} cores" if cpu else ""),
        ("GPU", str(gpu.get("name", "none"))),
        *_server_rows(result),
        ("platform", str(p.get("platform", ""))),
        ("load at start", ", ".join(f"{load:.2f}" for load in p.get("load_at_start") or [])),
        ("data", f"{result.data_name}, {data.get('images', '?')} images, fingerprint {print_}"),
        ("links", "; ".join(f"{link_label(link)}, burst {link.burst_bytes} B" for link in result.links)),
        ("nodes", ", ".join(result.nodes)),
        ("seed", str(result.told("spec").get("seed", ""))),
        ("intervals", f"over {result.resampled}"),
    ]
    prints = {k: v for k, v in result.told("fingerprints").items() if k not in ("data", "packages")}
    rows += [(f"fingerprint of {name}", str(value)[:64]) for name, value in prints.items()]
    return [(name, value) for name, value in rows if value]


def _server_rows(result: Result) -> Iterator[tuple[str, str]]:
    """What made the target's tokens, as it was told by the server of each pair."""
    for pair in result.pair_entries:
        if server := pair.get("server"):
            kind = " ".join(filter(None, [server["dtype"], server["quantize"]]))
            where = f"in {kind} on {server['device']}, {server['threads']} threads"
            machine = f"{server['cpu']}, {server['cores']} cores, GPU {server['gpu'] or 'none'}"
            target = f"{server['target']} ({server['target_sha256'][:16]})"
            yield f"server of {pair['name']}", f"{target} {where}; {machine}, aiflow {server['aiflow']}"


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("aiflow_cli.analysis"),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"interval": interval_text, "cell": markdown_cell}
    return environment


def markdown_cell(text: object) -> str:
    """Text in a cell of a Markdown table."""
    escaped = str(text).replace("\n", " ")
    for sign in "\\|*_":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped
