"""`aiflow report`: the paper's claims beside what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from aiflow_cli.cli.options import Json, Result, path_option
from aiflow_cli.cli.output import note, present, print_table, say
from aiflow_cli.cli.progress import progress
from aiflow_cli.cli.results import read_result

if TYPE_CHECKING:
    from aiflow_cli.analysis.report import Written

EXAMPLES = """\
aiflow report results/figure6-1a2b3c4d           report.md and report.html beside the trials, figures in figures/
aiflow report figure6-1a2b3c4d -o /tmp/report --json
"""
_COLORS = {"HOLDS": "green", "DIFFERS": "red", "UNDECIDED HERE": "dim"}


def report(
    result: Result,
    output: Annotated[Path | None, path_option("Folder of the report. (default: RESULT)")] = None,
    json_: Json = False,
) -> None:
    """Judge the paper's claims by a result: Markdown, and one HTML page that holds everything in itself."""
    from aiflow_cli.analysis.report import write_report

    loaded = read_result(result)
    with progress("report") as show:
        written = write_report(loaded, output, show)
    for name, reason in written.skipped:
        note(f"no {name}: {reason}")
    document = {
        "result": str(loaded.folder),
        "claims": [finding.as_json() for finding in written.claims],
        "markdown": str(written.markdown),
        "html": str(written.html),
        "figures": [str(path) for path in written.figures],
    }
    present(json_, document, lambda: print_claims(written))


def print_claims(written: Written) -> None:
    """The claims table on standard output, and where the report is."""
    claims = written.claims
    several = len({finding.series for finding in claims if finding.series}) > 1
    columns = ("the paper's claim", *(("of",) if several else ()), "paper", "measured here", "why", "verdict")
    rows, last = [], None
    for finding in claims:
        told = (finding.claim.statement, finding.claim.paper) if finding.claim is not last else ("", "")
        last = finding.claim
        of = (finding.series,) if several else ()
        measured = f"{finding.measured} {finding.interval}".strip()
        rows.append((told[0], *of, told[1], measured, finding.why, finding.verdict or "-"))
    print_table(columns, rows, left=len(columns) - 1, first_out=("why", "paper"), styles=_COLORS)
    say(f"figures: {written.html.parent / 'figures'}")
    say(f"report:  {written.markdown}")
    say(f"         {written.html}")
