"""How commands read the results that a user names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aiflow_cli.cli.output import note

if TYPE_CHECKING:
    from aiflow_cli.analysis.result import Result

_LONG_TO_READ_BYTES = 50_000_000


def read_result(folder: Path) -> Result:
    """The result in a folder, with a line before it if that takes a while, and one if its last trial is torn."""
    from aiflow_cli.analysis.result import load

    path = folder / "trials.jsonl"
    if path.is_file() and path.stat().st_size > _LONG_TO_READ_BYTES:
        note(f"reading {path} ({path.stat().st_size / 1e6:.0f} MB)")
    note_torn(folder)
    return load(folder)


def note_torn(folder: Path) -> None:
    """Say so if the last trial in a folder is torn."""
    from aiflow_cli.trials.store import torn_note

    if (folder / "trials.jsonl").is_file() and (torn := torn_note(folder)):
        note(torn)
