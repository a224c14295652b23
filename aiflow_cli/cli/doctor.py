"""`aiflow doctor`: what this machine has, what is missing, and the command that mends it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from aiflow_cli.cli.output import say

if TYPE_CHECKING:
    from aiflow_cli.trials.doctor import Finding

EXAMPLES = "Example: aiflow doctor --json"
MARKS = {"ok": "ok", "note": "note", "missing": "MISSING"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Say what this machine has and what is missing; exit code 3 if something needed is."""
    from aiflow_cli.cli.output import note, print_json
    from aiflow_cli.trials.doctor import examine

    findings: list[Finding] = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            _print(finding)
    missing = [finding.name for finding in findings if finding.state == "missing"]
    if as_json:
        print_json({"schema_version": 1, "ok": not missing, "findings": [asdict(finding) for finding in findings]})
    note(f"missing: {', '.join(missing)}" if missing else "nothing is missing: `aiflow run` works here")
    if missing:
        raise typer.Exit(3)


def _print(finding: Finding) -> None:
    say(f"{MARKS[finding.state]:<8} {finding.name:<15} {finding.detail}")
    if finding.remedy:
        say(f"{'':<24} -> {finding.remedy}")
