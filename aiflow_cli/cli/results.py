"""`aiflow results`: the results there are; and how commands read those that a user names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiflow_cli.cli.options import Json, read_path
from aiflow_cli.cli.output import note, print_items, print_json

if TYPE_CHECKING:
    from aiflow_cli.analysis.catalog import Entry
    from aiflow_cli.analysis.result import Result

EXAMPLES = """\
aiflow results                                   what is in results/, newest first
aiflow results /data/runs --json
"""
_COLUMNS: dict[str, Callable[[Entry], str]] = {
    "result": lambda e: e.run_id,
    "experiment": lambda e: e.name or "?",
    "pair": lambda e: ", ".join(e.pairs) or "?",
    "data": lambda e: (e.data or "?") + ("" if e.images is None else f" ({e.images})"),
    # Where there are more trials than planned, some are of an earlier plan: they are no share of this one.
    "trials": lambda e: f"{e.trials}/{e.planned}" if e.planned is not None and e.trials <= e.planned else str(e.trials),
    "state": lambda e: e.state,
    "began": lambda e: (e.began or "?").split(".", maxsplit=1)[0].replace("T", " "),
    "commit": lambda e: e.commit or "-",
}
_FIRST_OUT = ("commit", "data", "began", "pair", "experiment")
Root = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where results lie.", parser=read_path)]


def results(root: Root = Path("results"), json_: Json = False) -> None:
    """List results: what each is of, how far it is, and the code that measured it."""
    from aiflow_cli.analysis.catalog import list_results

    entries = list_results(root)
    if json_:
        print_json({"results": [entry.as_json() for entry in entries]})
    elif entries:
        print_items(_COLUMNS, entries, left=4, first_out=_FIRST_OUT)
    else:
        note(f"no results in {root}/: `aiflow run` or `aiflow sweep` makes one")
    for entry in entries:
        if entry.note:
            note(f"{entry.folder}: {entry.note}")


def read_result(place: Path | str) -> Result:
    """The result in a folder, or of that name in results/, with a line before it if its last trial is torn."""
    from aiflow_cli.analysis.result import find, load

    folder = place if isinstance(place, Path) else find(place)
    note_torn(folder)
    return load(folder)


def note_torn(folder: Path) -> None:
    """Say so if the last trial in a folder is torn."""
    from aiflow_cli.trials.store import torn_note

    if (folder / "trials.jsonl").is_file() and (torn := torn_note(folder)):
        note(torn)
