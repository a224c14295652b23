"""`aiflow results`: the results there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from aiflow_cli.analysis.catalog import Entry

EXAMPLES = """Examples:

  aiflow results                                   what is in results/, newest first

  aiflow results /data/runs --json
"""


def results(
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where results lie.")] = Path("results"),
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """List results: what each is of, how far it is, and the code that measured it."""
    from aiflow_cli.analysis.catalog import list_results
    from aiflow_cli.cli.output import note, print_json, print_table

    entries = list_results(root)
    if json_:
        print_json({"results": [entry.as_json() for entry in entries]})
    elif entries:
        print_table(
            ("result", "experiment", "pair", "data", "trials", "state", "began", "commit"),
            [_row(e) for e in entries],
            left=4,
            first_out=("commit", "data", "began", "pair", "experiment"),
        )
    else:
        note(f"no results in {root}/: `aiflow run` or `aiflow sweep` makes one")
    for entry in entries:
        if entry.note:
            note(f"{entry.folder}: {entry.note}")


def _row(entry: Entry) -> list[str]:
    images = "" if entry.images is None else f" ({entry.images})"
    began = (entry.began or "?").split(".", maxsplit=1)[0].replace("T", " ")
    counted = entry.planned is not None and entry.trials <= entry.planned  # more: some are of an earlier plan
    trials = f"{entry.trials}/{entry.planned}" if counted else str(entry.trials)
    data = f"{entry.data or '?'}{images}"
    return [
        entry.run_id,
        entry.name or "?",
        ", ".join(entry.pairs) or "?",
        data,
        trials,
        entry.state,
        began,
        entry.commit or "-",
    ]
