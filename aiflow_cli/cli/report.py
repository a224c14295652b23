"""`aiflow report`: the paper's claims beside what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from aiflow_cli.cli.options import Json, Result, output_option
from aiflow_cli.cli.output import note, print_json, print_table, say

if TYPE_CHECKING:
    from aiflow_cli.analysis.claims import Finding
    from aiflow_cli.analysis.report import Written

EXAMPLES = """Examples:

  aiflow report results/figure6-1a2b3c4d           report.md and report.html beside the trials, figures in figures/

  aiflow report figure6-1a2b3c4d -o /tmp/report --json
"""
_COLORS = {"HOLDS": "green", "DIFFERS": "red", "UNDECIDED HERE": "dim"}


def report(
    result: Result,
    output: Annotated[Path | None, output_option("Folder of the report. [default: RESULT]")] = None,
    json_: Json = False,
) -> None:
    """Judge the paper's claims by a result: Markdown, and one HTML page that holds everything in itself."""
    from aiflow_cli.analysis.report import write_report
    from aiflow_cli.analysis.result import find
    from aiflow_cli.cli.progress import progress
    from aiflow_cli.cli.reading import read_result

    folder = find(result)
    loaded = read_result(folder)
    with progress("report") as show:
        written = write_report(loaded, output, show)
    for name, reason in written.skipped:
        note(f"no {name}: {reason}")
    if json_:
        print_json(_document(folder, written))
        return
    print_claims(written.claims)
    say(f"figures: {written.html.parent / 'figures'}")
    say(f"report:  {written.markdown}")
    say(f"         {written.html}")


def _document(folder: Path, written: Written) -> dict[str, Any]:
    return {
        "result": str(folder),
        "claims": [finding.as_json() for finding in written.claims],
        "markdown": str(written.markdown),
        "html": str(written.html),
        "figures": [str(path) for path in written.figures],
    }


def print_claims(claims: list[Finding]) -> None:
    """The claims table on standard output."""
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
