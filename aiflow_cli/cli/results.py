"""`aiflow results`: the results there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiflow_cli.cli.options import Json
from aiflow_cli.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from aiflow_cli.analysis.catalog import Entry

EXAMPLES = """Examples:

  aiflow results                                   what is in results/, newest first

  aiflow results /data/runs --json
"""
_COLUMNS = ("result", "experiment", "pair", "data", "trials", "state", "began", "commit")
_FIRST_OUT = ("commit", "data", "began", "pair", "experiment")


def results(
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where results lie.")] = Path("results"),
    json_: Json = False,
) -> None:
    """List results: what each is of, how far it is, and the code that measured it."""
    from aiflow_cli.analysis.catalog import list_results

    entries = list_results(root)
    if json_:
        print_json({"results": [entry.as_json() for entry in entries]})
    elif entries:
        print_table(_COLUMNS, [_row(entry) for entry in entries], left=4, first_out=_FIRST_OUT)
    else:
        note(f"no results in {root}/: `aiflow run` or `aiflow sweep` makes one")
    for entry in entries:
        if entry.note:
            note(f"{entry.folder}: {entry.note}")


def _row(e: Entry) -> list[str]:
    images = "" if e.images is None else f" ({e.images})"
    began = (e.began or "?").split(".", maxsplit=1)[0].replace("T", " ")
    counted = e.planned is not None and e.trials <= e.planned  # more: some are of an earlier plan
    trials = f"{e.trials}/{e.planned}" if counted else str(e.trials)
    data, pairs = f"{e.data or '?'}{images}", ", ".join(e.pairs) or "?"
    return [e.run_id, e.name or "?", pairs, data, trials, e.state, began, e.commit or "-"]
