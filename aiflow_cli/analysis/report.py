"""The report of a result: the paper's claims beside what was measured, fit, figures, captions, honesty, provenance.

Markdown (with the figures beside it) and one HTML page that holds everything in itself: no script, no font, no picture
is fetched.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiflow_cli.analysis import metrics, theory
from aiflow_cli.analysis.captions import marked_captions
from aiflow_cli.analysis.claims import Finding, claims_table, footnotes
from aiflow_cli.analysis.curves import Curve
from aiflow_cli.analysis.figures.plotting import Show, draw_all, plan
from aiflow_cli.analysis.honesty import examine, small_pair_on_photographs
from aiflow_cli.analysis.intervals import Interval
from aiflow_cli.analysis.margins import DIFFERS, HOLDS, UNDECIDED, Verdict
from aiflow_cli.analysis.result import Result, link_label
from aiflow_cli.analysis.study import Study
from aiflow_cli.text import SPELT_OUT
from aiflow_cli.trials.identity import describe
from aiflow_cli.trials.store import make_folder, owned, replace_file

CAPTIONS = 4
MOST_LISTED = 20
"""Outliers and mismatches listed one by one; the rest are counted."""


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
    claims, (planned, skipped) = claims_table(study), plan(study)
    target = make_folder(folder or result.folder)
    figures, total = make_folder(target / "figures"), len(planned) + 2
    with owned(figures):
        drawings = draw_all(result, planned, figures, lambda done, _: show(done, total))
        svgs = [(drawing, (figures / f"{drawing.name}.svg").read_bytes()) for drawing, _ in drawings]
        context = report_context(study, claims) | {
            "drawings": [(drawing, data_uri("image/svg+xml", svg)) for drawing, svg in svgs],
            "skipped": skipped,
        }
        show(total - 1, total)
        for name in ("report.md", "report.html"):
            replace_file(target / name, _render(name, context))
    show(total, total)
    paths = [path for _, paths in drawings for path in paths]
    return Written(target / "report.md", target / "report.html", paths, claims, skipped)


def data_uri(kind: str, data: bytes) -> str:
    """Bytes within a page."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def report_context(study: Study, claims: list[Finding]) -> dict[str, Any]:
    """What the templates show beside the figures, computed once for both."""
    result, honesty, few = study.result, examine(study), study.main.too_few
    differing = [trial for trial in result.trials if trial.identical is False]
    wrong = [describe(t) if t.mismatch else f"{t.trial}: not explained yet" for t in differing]
    counts = {verdict: sum(f.verdict == verdict for f in claims) for verdict in (HOLDS, DIFFERS, UNDECIDED)}
    captions = [(c, c.picture and data_uri("image/jpeg", c.picture)) for c in marked_captions(study, CAPTIONS)]
    nothing_slower = "Nothing: no draft length is slower than server-only, and no baseline beats device-edge."
    return {
        "result": result,
        "title": f"{result.document.get('name', 'result')}: {', '.join(result.pairs)}",
        "summary": summary(study, counts),
        "brackets": f"Values have no intervals ({few})." if few else f"Values in brackets are {study.about_intervals}.",
        "claims": claims,
        "footnotes": footnotes(claims),
        "counts": counts,
        "fit_series": [*(curve.label for curve in study.curves), "fits the paper (no measurement)"],
        "fits": fit_rows(study.curves),
        "captions": captions,
        "wrong_captions": small_pair_on_photographs(study),
        "honesty": honesty,
        "outliers": honesty.outliers[:MOST_LISTED],
        "more_outliers": len(honesty.outliers[MOST_LISTED:]),
        "mismatches": wrong[:MOST_LISTED],
        "more_mismatches": len(wrong[MOST_LISTED:]),
        "formulas": metrics.FORMULAS,
        "provenance": provenance_rows(result),
        "panel": [
            ("Slower than expected", honesty.slower, nothing_slower),
            ("Drift", honesty.drift, "Not examined."),
            ("To keep in mind", honesty.notes, "Nothing in the set-up bears on the figures."),
        ],
    }


def summary(study: Study, counts: dict[Verdict, int]) -> str:
    """The result in two sentences."""
    result, curve = study.result, study.main
    best, ms = curve.best, [arm.ms(metrics.decode_tpot).value for arm in (curve.best.arm, curve.baseline)]
    return (
        f"{len(result.trials)} trials over {result.images} images ({result.data_name}), "
        f"{'; '.join(map(link_label, result.links))}. "
        f"With {curve.series.pair}, device-edge speculation is {best.speedup:.2f} times as fast as server-only at "
        f"draft length {best.gamma} ({ms[0]:.2f} against {ms[1]:.2f} ms decode TPOT). "
        f"Of the paper's claims, judged here: {', '.join(f'{n} {verdict}' for verdict, n in counts.items())}."
    )


def fit_rows(curves: Sequence[Curve]) -> dict[str, list[str]]:
    """The closed form's numbers, row by row: those of each curve, then those that reproduce the paper's figures."""
    paper = theory.PAPER
    costs = [f"{paper.draft_cost:.2f}", f"{paper.round_cost:.2f}", "0", f"{paper.draft_share:.2f}"]
    ends = [f"{paper.round_cost:.2f}", "-", _predicted(paper, theory.LONGEST_DRAFT), "4, about 2×, 22 (stated)"]
    columns, last = [_fit_column(curve) for curve in curves], [f"{paper.alpha:.2f}", "-", *costs, *ends]
    return {name: [*(c[name] for c in columns), text] for name, text in zip(columns[0], last, strict=True)}


def _fit_column(curve: Curve) -> dict[str, str]:
    """The closed form's numbers of a curve, as text by what they are."""
    fit, best, longest = curve.fit, curve.best, curve.gammas[-1]
    end = theory.format_break_even(curve.break_even.value, longest)
    return {
        "α, acceptance": interval_text(fit.alpha, 3),
        "accepted / judged drafts": interval_text(fit.accepted_share, 3),
        "c, a draft step": interval_text(fit.draft_cost, 3),
        "F, the rest of a round": interval_text(fit.round_cost, 3),
        "s, a further draft's share in it": interval_text(fit.verify_slope, 4),
        "(c + s) / F": interval_text(fit.draft_share, 3),
        "F + 4 s, a round of four": f"{fit.round_cost.value + 4 * fit.verify_slope.value:.3f}",
        "server-only step": f"{fit.step_ms:.2f} ms",
        "by the form: optimum, speed-up, break-even": _predicted(fit.model, longest),
        "measured: optimum, speed-up, break-even": f"{best.gamma}, {best.speedup.value:.2f}×, {end}",
    }


def _predicted(model: theory.CostModel, longest: int) -> str:
    best = model.optimum(longest)
    return f"{best}, {model.speedup(best):.2f}×, {theory.format_break_even(model.break_even())}"


def interval_text(interval: Interval, digits: int = 2) -> str:
    """`1.82 [1.72, 1.92]`, `1.82` where there is no interval, `-` where nothing is defined."""
    return f"{interval:z.{digits}f}"


def provenance_rows(result: Result) -> list[tuple[str, str]]:
    """Where the result comes from, a line each; what is not known is left out."""
    p, data = result.provenance, result.told("data")
    cpu, gpu, git = p.get("cpu") or {}, p.get("gpu") or {}, p.get("git") or {}
    dirty = ", with uncommitted changes" if git.get("dirty") else ""
    print_ = str(data.get("fingerprint", "?"))[:16]
    prints = {k: v for k, v in result.told("fingerprints").items() if k not in ("data", "packages")}
    rows = {
        "result": result.run_id,
        "command": " ".join(map(str, p.get("command") or [])),
        "began, ended": f"{p.get('started_at', '?')}, {p.get('finished_at') or 'not finished'}",
        "code": f"{git['revision']}{dirty}" if git.get("revision") else "",
        "aiflow, Python": f"{p.get('aiflow', '?')}, {p.get('python', '?')}",
        "packages": ", ".join(f"{name} {version}" for name, version in (p.get("packages") or {}).items() if version),
        "processor": f"{cpu.get('model', '?')}, {cpu.get('usable_cores', '?')} cores" if cpu else "",
        "GPU": str(gpu.get("name", "none")),
        **{f"server of {pair['name']}": _server(pair["server"]) for pair in result.pair_entries if pair.get("server")},
        "platform": str(p.get("platform", "")),
        "load at start": ", ".join(f"{load:.2f}" for load in p.get("load_at_start") or []),
        "data": f"{result.data_name}, {data.get('images', '?')} images, fingerprint {print_}",
        "links": "; ".join(f"{link_label(link)}, burst {link.burst_bytes} B" for link in result.links),
        "nodes": ", ".join(result.everything.nodes),
        "seed": str(result.told("spec").get("seed", "")),
        "intervals": f"over {result.everything.resampled}",
        **{f"fingerprint of {name}": str(value)[:64] for name, value in prints.items()},
    }
    return [(name, value) for name, value in rows.items() if value]


def _server(told: dict[str, Any]) -> str:
    """What made the target's tokens, as the server of a pair tells it."""
    kind = " ".join(filter(None, [told["dtype"], told["quantize"]]))
    where = f"in {kind} on {told['device']}, {told['threads']} threads"
    machine = f"{told['cpu']}, {told['cores']} cores, GPU {told['gpu'] or 'none'}"
    return f"{told['target']} ({told['target_sha256'][:16]}) {where}; {machine}, aiflow {told['aiflow']}"


def _render(template: str, context: dict[str, Any]) -> bytes:
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
    return environment.get_template(template).render(context).encode("utf-8", SPELT_OUT)


def markdown_cell(text: object) -> str:
    """Text in a cell of a Markdown table."""
    return re.sub(r"([\\|*_])", r"\\\1", str(text).replace("\n", " "))
