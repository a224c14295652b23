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
from typing import Any

import msgspec
from msgspec import inspect

from aiflow_cli.world.record import Link, Round, Setting, Trial

TRIALS, ROUNDS = "trials.parquet", "rounds.parquet"
UNPREFIXED = (Setting, Link)
DERIVED = ("n_tokens", "first_tokens", "ttft_s", "latency_s", "bytes_up", "bytes_down")
"""Properties of a trial that have a column too."""
SUMS = ("drafted", "accepted", "delivered")
"""Of all rounds of a trial, in its row."""
_KINDS: dict[Any, str] = {inspect.IntType: "int64", inspect.FloatType: "double", inspect.BoolType: "bool"}


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
    kinds = {name: "double" if name.endswith("_s") else "int64" for name in DERIVED}
    derived = [Column(name, kind, getattr(Trial, name).__doc__) for name, kind in kinds.items()]
    sums = [Column(name, "int64", f"Tokens {name} in all rounds.") for name in SUMS]
    return (*_columns(Trial), *derived, Column("rounds", "int64", "How many."), *sums)


@cache
def round_columns() -> tuple[Column, ...]:
    """What rounds.parquet has: which trial and setting, which round, and the fields of the record."""
    shared = ("trial", "session", "node", "image_id")
    of_trial = [c for c in trial_columns() if c.name in shared or c.path[:1] == ("setting",)]
    return (*of_trial, Column("round", "int64", "From 0.", ("round",)), *_columns(Round))


def _columns(part: type, path: tuple[str, ...] = (), prefix: str = "") -> Iterator[Column]:
    """Of the fields of a part of the record, a column each; a part within it has the columns of its own fields."""
    told = inspect.type_info(part)
    assert isinstance(told, inspect.StructType)
    for field in told.fields:
        name, here, about, kind = f"{prefix}{field.name}", (*path, field.name), "", field.type
        if isinstance(kind, inspect.Metadata):
            about, kind = (kind.extra_json_schema or {}).get("description", ""), kind.type
        if isinstance(kind, inspect.UnionType):  # with null
            (kind,) = (one for one in kind.types if not isinstance(one, inspect.NoneType))
        match kind:
            case inspect.StructType(cls=inner):
                yield from _columns(inner, here, "" if inner in UNPREFIXED else f"{name}_")
            case inspect.VarTupleType(item_type=inspect.StructType(cls=item)):
                for column in _columns(item, here, f"{name}_") if item is not Round else ():
                    yield dataclasses.replace(column, kind=f"list<{column.kind}>")
            case inspect.VarTupleType(item_type=item):
                yield Column(name, f"list<{_KINDS[type(item)]}>", about, here)
            case inspect.DictType():
                yield Column(name, "map<string, int64>", about, here)
            case _:
                yield Column(name, _KINDS.get(type(kind), "string"), about, here)


def of_trials(trials: Iterable[Trial]) -> dict[str, bytes]:
    """Both files of the measured trials, by name."""
    rows, rounds = [], []
    for trial in trials:
        if not trial.warmup:
            plain = msgspec.to_builtins(trial)
            at_s, n_tokens = ([delivery[i] for delivery in plain["deliveries"]] for i in range(2))
            plain["deliveries"] = {"at_s": at_s, "n_tokens": n_tokens}
            derived = {name: getattr(trial, name) for name in DERIVED} | {"rounds": len(trial.rounds)}
            sums = {name: sum(getattr(one, name) for one in trial.rounds) for name in SUMS}
            rows.append(_row(plain, trial_columns()) | derived | sums)
            numbered = enumerate(plain["rounds"])
            rounds += [_row({**plain, "round": number, **one}, round_columns()) for number, one in numbered]
    return {TRIALS: _parquet(rows, trial_columns()), ROUNDS: _parquet(rounds, round_columns())}


def _row(plain: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    row = {}
    for column in columns:
        value: Any = plain
        for name in column.path:
            value = None if value is None else value[name]
        row[column.name] = value
    return row


def _parquet(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def arrow(kind: str) -> Any:
        if kind.startswith("map"):
            return pa.map_(pa.string(), pa.int64())
        item = kind.removeprefix("list<").removesuffix(">")
        return pa.type_for_alias(kind) if item == kind else pa.list_(pa.type_for_alias(item))

    schema = pa.schema([(column.name, arrow(column.kind)) for column in columns])
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer)
    return bytes(buffer.getvalue().to_pybytes())


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
    return {
        name: part
        for name, part in document.items()
        if not (isinstance(part, dict) and part and all(value is None for value in part.values()))
    }
