"""How commands read the results that a user names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aiflow_cli.cli.output import note

if TYPE_CHECKING:
    from aiflow_cli.analysis.result import Result

_LONG_TO_READ_BYTES = 50_000_000


def read_result(folder: Path) -> Result:
    """The result in a folder, with a line before it if that takes a while, and one behind it if it is not whole."""
    from aiflow_cli.analysis.result import load

    path = folder / "trials.jsonl"
    if path.is_file() and path.stat().st_size > _LONG_TO_READ_BYTES:
        note(f"reading {path} ({path.stat().st_size / 1e6:.0f} MB)")
    result = load(folder)
    if result.note:
        note(result.note)
    return result
