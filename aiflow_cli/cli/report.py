"""`aiflow report`: the paper's claims beside what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    from aiflow_cli.analysis.result import find, load
    from aiflow_cli.cli.output import note, print_json
    from aiflow_cli.cli.progress import announce_reading, counted_progress

    folder = find(result)
    announce_reading(folder)
    with counted_progress("report") as show:
        written = write_report(load(folder), output, show)
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
    typer.echo(f"figures: {written.html.parent / 'figures'}")
    typer.echo(f"report:  {written.markdown}")
    typer.echo(f"         {written.html}")


_COLORS = {"HOLDS": "green", "DIFFERS": "red", "NOT TESTED HERE": "dim"}


def print_claims(claims: list[Finding]) -> None:
    """The claims table on standard output; long cells are folded to the width there is."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from aiflow_cli.cli.output import console

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    several = len({finding.series for finding in claims if finding.series}) > 1
    columns = ("the paper's claim", *(("of",) if several else ()), "paper", "measured here", "verdict", "why")
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name == "verdict")
    last = None
    for finding in claims:
        statement = "" if finding.claim is last else finding.claim.statement
        last = finding.claim
        measured = f"{finding.measured} {finding.interval}".strip()
        cells = [statement, *((finding.series,) if several else ()), finding.claim.paper if statement else "", measured]
        table.add_row(*cells, Text(finding.verdict, style=_COLORS[finding.verdict]), finding.why)
    console().print(table, soft_wrap=False)
