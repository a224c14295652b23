"""`aiflow report`: the paper's claims beside what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiflow_cli.cli.output import say

if TYPE_CHECKING:
    from aiflow_cli.analysis.claims import Finding

EXAMPLES = """Examples:

  aiflow report results/figure6-1a2b3c4d           report.md and report.html beside the trials, figures in figures/

  aiflow report figure6-1a2b3c4d -o /tmp/report --json
"""


def report(
    result: Annotated[str, typer.Argument(metavar="RESULT", help="The folder of a result, or its name in results/.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the report. [default: RESULT]")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Judge the paper's claims by a result: Markdown, and one HTML page that holds everything in itself."""
    from aiflow_cli.analysis.report import write_report
    from aiflow_cli.analysis.result import find
    from aiflow_cli.cli.output import note, print_json
    from aiflow_cli.cli.progress import counted_progress
    from aiflow_cli.cli.reading import read_result

    folder = find(result)
    loaded = read_result(folder)
    with counted_progress("report") as show:
        written = write_report(loaded, output, show)
    for name, reason in written.skipped:
        note(f"no {name}: {reason}")
    if json_:
        print_json(
            {
                "result": str(folder),
                "claims": [finding.as_json() for finding in written.claims],
                "markdown": str(written.markdown),
                "html": str(written.html),
                "figures": [str(path) for path in written.figures],
            }
        )
        return
    print_claims(written.claims)
    say(f"figures: {written.html.parent / 'figures'}")
    say(f"report:  {written.markdown}")
    say(f"         {written.html}")


_COLORS = {"HOLDS": "green", "DIFFERS": "red", "UNDECIDED HERE": "dim"}


def print_claims(claims: list[Finding]) -> None:
    """The claims table on standard output."""
    from aiflow_cli.cli.output import print_table

    several = len({finding.series for finding in claims if finding.series}) > 1
    columns = ("the paper's claim", *(("of",) if several else ()), "paper", "measured here", "why", "verdict")
    rows, last = [], None
    for finding in claims:
        told = "" if finding.claim is last else finding.claim.statement
        last = finding.claim
        of = (finding.series,) if several else ()
        measured = f"{finding.measured} {finding.interval}".strip()
        rows.append((told, *of, finding.claim.paper if told else "", measured, finding.why, finding.verdict or "-"))
    print_table(columns, rows, left=len(columns) - 1, first_out=("why", "paper"), styles=_COLORS)
