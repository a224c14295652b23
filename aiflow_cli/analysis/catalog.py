"""The results in a folder, one line each, without reading their trials."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from aiflow_cli.analysis.result import folders, pair_entries, short_commit
from aiflow_cli.errors import StoreError, UsageError
from aiflow_cli.text import printable
from aiflow_cli.trials.store import is_whole, read_run, torn_note

State = Literal["complete", "unfinished", "damaged"]


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
    document, trials = _document(folder), count_trials(folder)
    known = document or {}
    provenance, data = _dict(known.get("provenance")), _dict(known.get("data"))
    planned = known.get("trials") if isinstance(known.get("trials"), int) else None
    finished = bool(provenance.get("finished_at")) and (planned is None or trials >= planned)
    damage = "run.json cannot be read" if document is None else "no finished trial" if not trials else _torn(folder)
    return Entry(
        run_id=printable(folder.name),
        folder=folder,
        began=provenance.get("started_at"),
        name=known.get("name"),
        pairs=tuple(str(entry["name"]) for entry in pair_entries(known) if "name" in entry),
        data=data.get("name"),
        images=data.get("images"),
        trials=trials,
        planned=planned,
        commit=short_commit(provenance),
        state="damaged" if document is None else "complete" if finished and trials else "unfinished",
        note=damage,
    )


def _document(folder: Path) -> dict[str, Any] | None:
    try:
        return read_run(folder)
    except StoreError:
        return None


def _torn(folder: Path) -> str | None:
    try:
        return torn_note(folder)
    except StoreError:
        return None  # its trials are in tables, which are never torn


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def count_trials(folder: Path) -> int:
    """How many measured trials there are, by the lines' text alone or by the table's length; 0 where neither is."""
    try:
        with (folder / "trials.jsonl").open("rb") as file:
            return sum((line.endswith(b"\n") or is_whole(line)) and not _is_warmup(line) for line in file)
    except OSError:
        return _table_rows(folder / "trials.parquet")


def _table_rows(path: Path) -> int:
    from pyarrow import ArrowException, parquet

    try:
        return int(parquet.read_metadata(path).num_rows)
    except (OSError, ArrowException):
        return 0


def _is_warmup(line: bytes) -> bool:
    return b'"warmup":true' in line or b'"warmup": true' in line
