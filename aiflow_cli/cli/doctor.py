"""`aiflow doctor`: what this machine has, what is missing, and the command that mends it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

EXAMPLES = "Example: aiflow doctor --json"
MARKS = {"ok": "ok", "note": "-", "missing": "MISSING"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Say what this machine has and what is missing; exit code 3 if something needed is."""
    from aiflow_cli.cli import output
    from aiflow_cli.trials.doctor import examine

    findings = list(examine())
    missing = any(finding.state == "missing" for finding in findings)
    if as_json:
        output.print_json({"schema_version": 1, "ok": not missing, "findings": [asdict(f) for f in findings]})
    else:
        rows = [[f.name, MARKS[f.state], f.detail, f.remedy or ""] for f in findings]
        output.print_table(["what", "", "found", "to mend it"], rows, left=4)
    if missing:
        raise typer.Exit(3)
