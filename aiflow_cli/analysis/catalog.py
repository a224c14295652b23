"""The results in a folder, one line each, without reading their trials."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from aiflow_cli.analysis.result import Result, folders
from aiflow_cli.errors import StoreError, UsageError
from aiflow_cli.text import printable
from aiflow_cli.trials.store import is_whole, read_run, torn_note

State = Literal["complete", "unfinished", "damaged"]
_WARMUP = re.compile(rb'"warmup": ?true')


@dataclass(frozen=True)
class Entry:
    """One result. `trials` without warm-ups; `planned`: None where run.json does not say; `note`: what is damaged."""

    run_id: str
    folder: Path
    began: str | None
    name: str | None
    pairs: tuple[str, ...]
    data: str | None
    images: int | None
    trials: int
    planned: int | None
    commit: str | None
    state: State
    note: str | None

    def as_json(self) -> dict[str, Any]:
        """The form of `aiflow results --json`."""
        return asdict(self) | {"folder": str(self.folder), "pairs": list(self.pairs)}


def list_results(root: Path) -> list[Entry]:
    """Every result in `root`, newest first. Raises UsageError for what is no folder."""
    if root.is_file():
        raise UsageError(f"{root} is a file: give the folder that results lie in")
    return [_entry(folder) for folder in folders(root)]


def _entry(folder: Path) -> Entry:
    document, trials, damage = dict[str, Any](), count_trials(folder), None
    try:
        document = read_run(folder)
    except StoreError:
        damage = "run.json cannot be read"
    note = damage or (None if trials else "no finished trial")
    with suppress(StoreError):  # trials in tables are never torn
        note = note or torn_note(folder)
    told = Result(folder, document, ())
    finished = told.provenance.get("finished_at") and trials and (told.planned is None or trials >= told.planned)
    return Entry(
        run_id=printable(folder.name),  # as it is named here, by which commands find it, also where it is a link
        folder=folder,
        began=told.provenance.get("started_at"),
        name=document.get("name"),
        pairs=tuple(str(entry["name"]) for entry in told.pair_entries if "name" in entry),
        data=told.told("data").get("name"),
        images=told.told("data").get("images"),
        trials=trials,
        planned=told.planned,
        commit=None if told.commit == "unknown" else told.commit,
        state="damaged" if damage else "complete" if finished else "unfinished",
        note=note,
    )


def count_trials(folder: Path) -> int:
    """How many measured trials there are, by the lines' text alone or by the table's length; 0 where neither is."""
    try:
        with (folder / "trials.jsonl").open("rb") as file:
            return sum((line.endswith(b"\n") or is_whole(line)) and not _WARMUP.search(line) for line in file)
    except OSError:
        from pyarrow import ArrowException, parquet

        with suppress(OSError, ArrowException):
            return int(parquet.read_metadata(folder / "trials.parquet").num_rows)
    return 0
