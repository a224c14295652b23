"""Trials as two tables, for whoever analyses them elsewhere: `pandas.read_parquet("results/.../trials.parquet")`.

`trials.parquet` has a row a trial, `rounds.parquet` a row a round, both without warm-ups; together they hold all that
trials.jsonl holds of these, so that either can be made of the other. Columns follow from the record
(`world/record.py`): what is nested there is flat here (`prefill_draft_s`, `mismatch_kind`; pair, method, gamma and the
link by their own names).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
from msgspec import inspect

from aiflow_cli.world.record import Link, Round, Setting, Trial

TRIALS, ROUNDS = "trials.parquet", "rounds.parquet"
UNPREFIXED = (Setting, Link)
DERIVED = ("n_tokens", "first_tokens", "ttft_s", "latency_s", "bytes_up", "bytes_down")
"""Properties of a trial that have a column too."""
SUMS = ("drafted", "accepted", "delivered")
"""Of all rounds of a trial, in its row."""
_LEAVES = {inspect.IntType: "int64", inspect.FloatType: "double", inspect.BoolType: "bool"}
_OWN_NAMES: dict[Any, str] = {int: "int64", float: "double"}


@dataclass(frozen=True)
class Column:
    """A column. `path` leads to its value in a trial or a round; none leads to what is derived."""

    name: str
    kind: str
    about: str
    path: tuple[str, ...] = ()


@cache
def trial_columns() -> tuple[Column, ...]:
    """What trials.parquet has: fields of the record, then what is derived from them."""
    hints = {name: get_type_hints(getattr(Trial, name).fget)["return"] for name in DERIVED}
    derived = [Column(name, _OWN_NAMES[hints[name]], getattr(Trial, name).__doc__) for name in DERIVED]
    sums = [Column(name, "int64", f"Tokens {name} in all rounds.") for name in SUMS]
    return (*_columns(inspect.type_info(Trial)), *derived, Column("rounds", "int64", "How many."), *sums)


@cache
def round_columns() -> tuple[Column, ...]:
    """What rounds.parquet has: which trial and setting, which round, and the fields of the record."""
    shared = ("trial", "session", "node", "image_id")
    of_trial = [c for c in trial_columns() if c.name in shared or c.path[:1] == ("setting",)]
    return (*of_trial, Column("round", "int64", "From 0.", ("round",)), *_columns(inspect.type_info(Round)))


def _columns(part: inspect.Type, path: tuple[str, ...] = (), prefix: str = "") -> Iterator[Column]:
    assert isinstance(part, inspect.StructType)
    for field in part.fields:
        here = (*path, field.name)
        match _bare(field.type):
            case about, inspect.StructType() as inner:
                yield from _columns(inner, here, "" if inner.cls in UNPREFIXED else f"{prefix}{field.name}_")
            case about, inspect.VarTupleType(item_type=inspect.StructType() as item):
                if item.cls is not Round:  # which have a table of their own
                    inner_columns = _columns(item, here, f"{prefix}{field.name}_")
                    yield from (dataclasses.replace(c, kind=f"list<{c.kind}>") for c in inner_columns)
            case about, kind:
                yield Column(f"{prefix}{field.name}", _kind(kind), about, here)


def _bare(kind: inspect.Type) -> tuple[str, inspect.Type]:
    """A type's description, and the type without it and without null."""
    about = ""
    if isinstance(kind, inspect.Metadata):
        about, kind = (kind.extra_json_schema or {}).get("description", ""), kind.type
    if isinstance(kind, inspect.UnionType):
        (kind,) = (one for one in kind.types if not isinstance(one, inspect.NoneType))
    return about, kind


def _kind(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.VarTupleType):
        return f"list<{_kind(kind.item_type)}>"
    return "map<string, int64>" if isinstance(kind, inspect.DictType) else _LEAVES.get(type(kind), "string")


def of_trials(trials: Iterable[Trial]) -> dict[str, bytes]:
    """Both files of the measured trials, by name."""
    measured = [(trial, _plain(trial)) for trial in trials if not trial.warmup]
    rows = [_row(plain, trial_columns()) | _derived(trial) for trial, plain in measured]
    rounds = [
        _row({**plain, "round": number, **one}, round_columns())
        for _, plain in measured
        for number, one in enumerate(plain["rounds"])
    ]
    return {TRIALS: _parquet(rows, trial_columns()), ROUNDS: _parquet(rounds, round_columns())}


def _plain(trial: Trial) -> dict[str, Any]:
    """A trial of dictionaries and lists, the parts of deliveries in lists of their own."""
    plain: dict[str, Any] = msgspec.to_builtins(trial)
    times, counts = ([delivery[i] for delivery in plain["deliveries"]] for i in range(2))
    return plain | {"deliveries": {"at_s": times, "n_tokens": counts}}


def _row(plain: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    row = {}
    for column in columns:
        value: Any = plain
        for name in column.path:
            value = None if value is None else value[name]
        row[column.name] = value
    return row


def _derived(trial: Trial) -> dict[str, Any]:
    sums = {name: sum(getattr(one, name) for one in trial.rounds) for name in SUMS}
    return {name: getattr(trial, name) for name in DERIVED} | {"rounds": len(trial.rounds)} | sums


def _parquet(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(column.name, _arrow(column.kind)) for column in columns])
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer)
    return bytes(buffer.getvalue().to_pybytes())


def _arrow(kind: str) -> Any:
    import pyarrow as pa

    if kind.startswith("map"):
        return pa.map_(pa.string(), pa.int64())
    item = kind.removeprefix("list<").removesuffix(">")
    return pa.type_for_alias(kind) if item == kind else pa.list_(pa.type_for_alias(item))


def read(folder: Path) -> list[Trial]:
    """The measured trials of the tables in a folder. Raises OSError, KeyError, ValueError for what is no such table."""
    import pyarrow.parquet as pq

    rounds: dict[str, list[Any]] = {}
    for row in pq.read_table(folder / ROUNDS).to_pylist():
        rounds.setdefault(row["trial"], []).append(_nested(row, round_columns()))
    trials = [_nested(row, trial_columns()) for row in pq.read_table(folder / TRIALS).to_pylist()]
    for trial in trials:
        parts = trial["deliveries"]
        trial["deliveries"] = list(zip(parts["at_s"], parts["n_tokens"], strict=True))
        trial["rounds"] = rounds.get(trial["trial"], [])
    return msgspec.convert(trials, list[Trial])


def _nested(row: Mapping[str, Any], columns: Iterable[Column]) -> dict[str, Any]:
    """A row as it is nested in the record; a part of which nothing is known is left out."""
    document: dict[str, Any] = {}
    for column in columns:
        if column.path:
            place = document
            for name in column.path[:-1]:
                place = place.setdefault(name, {})
            value = row[column.name]
            place[column.path[-1]] = dict(value) if column.kind.startswith("map") else value
    return {name: part for name, part in document.items() if not _unknown(part)}


def _unknown(part: object) -> bool:
    return isinstance(part, dict) and bool(part) and all(value is None for value in part.values())


def documentation() -> str:
    """Both tables as Markdown: every column, its type, what it is."""
    parts = []
    for name, columns in ((TRIALS, trial_columns()), (ROUNDS, round_columns())):
        rows = [f"| `{c.name}` | {c.kind} | {c.about} |" for c in columns]
        parts.append("\n".join([f"### `{name}`", "", "| column | type | what |", "| --- | --- | --- |", *rows]))
    return "\n\n".join(parts)
