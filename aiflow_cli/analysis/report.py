"""The report of a result: the paper's claims beside what was measured, fit, figures, captions, honesty panel, provenance.

Markdown (with the figures beside it) and one HTML page that holds everything in itself: no script, no font, no picture is fetched.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiflow_cli.analysis import theory
from aiflow_cli.analysis.captions import MarkedCaption, marked_captions
from aiflow_cli.analysis.claims import DIFFERS, HOLDS, UNTESTED, Finding, claims_table
from aiflow_cli.analysis.curves import Curve, format_break_even
from aiflow_cli.analysis.honesty import Honesty, examine, small_pair_on_photographs
from aiflow_cli.analysis.intervals import Interval
from aiflow_cli.analysis.metrics import FORMULAS
from aiflow_cli.analysis.plotting import Planned, plan
from aiflow_cli.analysis.result import Result, link_label, mismatched
from aiflow_cli.analysis.study import Study
from aiflow_cli.analysis.style import Drawing, styled, write_drawing
from aiflow_cli.text import SPELT_OUT
from aiflow_cli.trials.identity import describe
from aiflow_cli.trials.store import make_folder, owned, replace_file

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
    """Write `report.md`, `report.html` and `figures/` into `folder` (that of the result). `show` gets steps done and to be done.

    Raises UsageError without server-only or speculative trials, StoreError where the result cannot be analysed or files not written.
    """
    study = Study(result)
    claims = claims_table(study)
    planned, skipped = plan(study)
    target = make_folder(folder or result.folder)
    with owned(make_folder(target / "figures")):
        return _write(study, claims, planned, skipped, target, show)


def _write(
    study: Study,
    claims: list[Finding],
    planned: list[Planned],
    skipped: list[tuple[str, str]],
    target: Path,
    show: Show,
) -> Written:
    result, figures, total = study.result, target / "figures", len(planned) + 2
    drawings: list[tuple[Drawing, str]] = []
    paths: list[Path] = []
    for done, one in enumerate(planned):
        show(done, total)
        with styled():
            drawing = one.draw()
            paths += write_drawing(drawing, figures, result.run_id, result.commit)
        drawings.append((drawing, data_uri("image/svg+xml", (figures / f"{drawing.name}.svg").read_bytes())))
    show(len(planned), total)
    context = report_context(study, claims, drawings, skipped)
    show(len(planned) + 1, total)
    written = Written(target / "report.md", target / "report.html", paths, claims, skipped)
    environment = _environment()
    for path in (written.markdown, written.html):
        replace_file(path, environment.get_template(path.name).render(context).encode("utf-8", SPELT_OUT))
    show(total, total)
    return written


def data_uri(kind: str, data: bytes) -> str:
    """Bytes within a page."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def report_context(
    study: Study, claims: list[Finding], drawings: list[tuple[Drawing, str]], skipped: list[tuple[str, str]]
) -> dict[str, Any]:
    """What the templates show, computed once for both."""
    result, honesty = study.result, examine(study)
    wrong = mismatched(result.records)
    return {
        "result": result,
        "title": f"{result.document.get('name', 'result')}: {', '.join(result.pairs)}",
        "summary": summary(study, claims),
        "brackets": _brackets(study.main),
        "claims": claims,
        "counts": {verdict: sum(f.verdict == verdict for f in claims) for verdict in (HOLDS, DIFFERS, UNTESTED)},
        "fits": fit_columns(study),
        "drawings": drawings,
        "skipped": skipped,
        "captions": [(caption, _picture(caption)) for caption in marked_captions(study, CAPTIONS)],
        "wrong_captions": small_pair_on_photographs(study),
        "honesty": honesty,
        "outliers": honesty.outliers[:MOST_LISTED],
        "more_outliers": len(honesty.outliers[MOST_LISTED:]),
        "mismatches": [_describe(record) for record in wrong[:MOST_LISTED]],
        "more_mismatches": len(wrong[MOST_LISTED:]),
        "formulas": FORMULAS,
        "provenance": provenance_rows(result),
        "panel": _panel(honesty),
    }


def _brackets(curve: Curve) -> str:
    if curve.too_few:
        return f"Values have no intervals ({curve.too_few})."
    return "Values in brackets are 95 % bootstrap intervals over images, paired."


def _picture(caption: MarkedCaption) -> str | None:
    return None if caption.picture is None else data_uri("image/jpeg", caption.picture)


def _describe(record: Mapping[str, Any]) -> str:
    return describe(dict(record)) if record.get("mismatch") else f"{record['trial']}: not explained yet"


def _panel(honesty: Honesty) -> list[tuple[str, list[str], str]]:
    """The lists of the honesty panel: heading, lines, and what to say where there are none."""
    return [
        (
            "Slower than expected",
            honesty.slower,
            "Nothing: no draft length is slower than server-only, and no baseline beats device-edge.",
        ),
        ("Drift", honesty.drift, "Not examined."),
        ("To keep in mind", honesty.notes, "Nothing in the set-up bears on the figures."),
    ]


def summary(study: Study, claims: list[Finding]) -> str:
    """The result in two sentences."""
    result, curve = study.result, study.main
    best, base = curve.best, curve.baseline
    images = len({record["image_id"] for record in result.records})
    holds, differs = (sum(f.verdict == verdict for f in claims) for verdict in (HOLDS, DIFFERS))
    return (
        f"{len(result.records)} trials over {images} images ({result.data_name}), {'; '.join(map(link_label, result.links))}. "
        f"With {curve.series.pair}, device-edge speculation is {best.speedup:.2f} times as fast as server-only at draft length {best.gamma} "
        f"({best.decode_tpot_ms.value:.2f} against {base.decode_tpot_ms.value:.2f} ms decode TPOT). "
        f"Of the paper's claims, {holds} hold{'s' if holds == 1 else ''} and {differs} differ{'s' if differs == 1 else ''} here; "
        f"{len(claims) - holds - differs} are not tested."
    )


class FitColumn(NamedTuple):
    """The closed form's numbers of one series, in words and figures: name -> text."""

    series: str
    rows: dict[str, str]


def fit_columns(study: Study) -> list[FitColumn]:
    """The fitted numbers of every curve, and those that reproduce the paper's figures."""
    return [*map(_fit_column, study.curves), _paper_column()]


def _fit_column(curve: Curve) -> FitColumn:
    fit, model, longest = curve.fit, curve.fit.model, curve.gammas[-1]
    measured = (
        f"{curve.best.gamma}, {curve.best.speedup.value:.2f}×, {format_break_even(curve.break_even.value, longest)}"
    )
    rows = {
        "α, acceptance": interval_text(fit.alpha, 3),
        "accepted / judged drafts": interval_text(fit.accepted_share, 3),
        "c, a draft step": interval_text(fit.draft_cost, 3),
        "F, the rest of a round": interval_text(fit.round_cost, 3),
        "s, a further draft's share in it": interval_text(fit.verify_slope, 4),
        "F + 4 s, a round of four": f"{fit.round_cost.value + 4 * fit.verify_slope.value:.3f}",
        "server-only step": f"{fit.step_ms:.2f} ms",
        "by the form: optimum, speed-up, break-even": _predicted(model, longest),
        "measured: optimum, speed-up, break-even": measured,
    }
    return FitColumn(curve.label, rows)


def _paper_column() -> FitColumn:
    paper = theory.PAPER
    rows = {
        "α, acceptance": f"{paper.alpha:.2f}",
        "accepted / judged drafts": "-",
        "c, a draft step": f"{paper.draft_cost:.2f}",
        "F, the rest of a round": f"{paper.round_cost:.2f}",
        "s, a further draft's share in it": "0",
        "F + 4 s, a round of four": f"{paper.round_cost:.2f}",
        "server-only step": "-",
        "by the form: optimum, speed-up, break-even": _predicted(paper, theory.LONGEST_DRAFT),
        "measured: optimum, speed-up, break-even": "4, about 2×, 22 (stated)",
    }
    return FitColumn("fits the paper (no measurement)", rows)


def _predicted(model: theory.CostModel, longest: int) -> str:
    best = model.optimum(longest)
    return f"{best}, {model.speedup(best):.2f}×, {_break_even(model)}"


def _break_even(model: theory.CostModel) -> str:
    crossing = model.break_even()
    return "none" if crossing is None else format_break_even(crossing, theory.LONGEST_DRAFT)


def interval_text(interval: Interval | None, digits: int = 2) -> str:
    """`1.82 [1.72, 1.92]`, `1.82` where there is no interval, `-` where nothing is defined."""
    return "-" if interval is None else f"{interval:z.{digits}f}"


def provenance_rows(result: Result) -> list[tuple[str, str]]:
    """Where the result comes from, a line each; what is not known is left out."""
    p, data = result.provenance, result.document.get("data") or {}
    cpu, gpu, git = p.get("cpu") or {}, p.get("gpu") or {}, p.get("git") or {}
    rows = [
        ("result", result.run_id),
        ("command", " ".join(map(str, p.get("command") or []))),
        ("began, ended", f"{p.get('started_at', '?')}, {p.get('finished_at') or 'not finished'}"),
        (
            "code",
            f"{git['revision']}{', with uncommitted changes' if git.get('dirty') else ''}"
            if git.get("revision")
            else "",
        ),
        ("aiflow, Python", f"{p.get('aiflow', '?')}, {p.get('python', '?')}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in (p.get("packages") or {}).items() if version)),
        ("processor", f"{cpu.get('model', '?')}, {cpu.get('usable_cores', '?')} cores" if cpu else ""),
        ("GPU", str(gpu.get("name", "none"))),
        *_server_rows(result),
        ("platform", str(p.get("platform", ""))),
        ("load at start", ", ".join(f"{load:.2f}" for load in p.get("load_at_start") or [])),
        (
            "data",
            f"{result.data_name}, {data.get('images', '?')} images, fingerprint {str(data.get('fingerprint', '?'))[:16]}",
        ),
        ("links", "; ".join(f"{link_label(link)}, burst {link.burst_bytes} B" for link in result.links)),
        ("nodes", ", ".join(result.nodes)),
        ("seed", str(result.settings.get("seed", ""))),
        ("sessions", str(len(result.document.get("sessions") or []) or "")),
    ]
    prints = {k: v for k, v in (result.document.get("fingerprints") or {}).items() if k not in ("data", "packages")}
    rows += [(f"fingerprint of {name}", str(value)[:64]) for name, value in prints.items()]
    return [(name, value) for name, value in rows if value]


def _server_rows(result: Result) -> Iterator[tuple[str, str]]:
    """What made the target's tokens, as it was told by the server of each pair."""
    for pair in result.document.get("pairs") or [result.document.get("pair") or {}]:
        if server := pair.get("server"):
            kind = " ".join(filter(None, [server["dtype"], server["quantize"]]))
            text = f"{server['target']} ({server['target_sha256'][:16]}) in {kind} on {server['device']}, {server['threads']} threads"
            machine = (
                f"{server['cpu']}, {server['cores']} cores, GPU {server['gpu'] or 'none'}, aiflow {server['aiflow']}"
            )
            yield f"server of {pair['name']}", f"{text}; {machine}"


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
    return (
        str(text).replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("_", "\\_").replace("\n", " ")
    )
