"""`aiflow doctor`: what this machine has, what is missing, and the command that mends it."""

from __future__ import annotations

from dataclasses import asdict

import typer

from aiflow_cli.cli.options import Json
from aiflow_cli.cli.output import note, print_json, say

EXAMPLES = "aiflow doctor --json"


def doctor(json_: Json = False) -> None:
    """Say what this machine has and what is missing; exit code 3 if something needed is."""
    from aiflow_cli.trials.doctor import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not json_:
            say(f"{finding.state.replace('missing', 'MISSING'):<8} {finding.name:<15} {finding.detail}")
            if finding.remedy:
                say(f"{'':<24} -> {finding.remedy}")
    missing = [finding.name for finding in findings if finding.state == "missing"]
    if json_:
        print_json({"schema_version": 1, "ok": not missing, "findings": [asdict(finding) for finding in findings]})
    note(f"missing: {', '.join(missing)}" if missing else "nothing is missing: `aiflow run` works here")
    if missing:
        raise typer.Exit(3)
