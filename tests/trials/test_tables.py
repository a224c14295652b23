"""The tables hold what the lines hold of the measured trials, column for column as the documentation says."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_cli.errors import StoreError
from aiflow_cli.trials import tables
from aiflow_cli.trials.store import TrialWriter, read_trials, replace_file, write_tables
from aiflow_cli.world.record import Trial
from tests.world.trials import trial, trials

README = Path(__file__).parents[2] / "results" / "README.md"
MADE = st.integers(0, 3).flatmap(lambda n: st.tuples(*(trials(f"0000-{i:03d}") for i in range(n))))


@settings(max_examples=60)
@given(MADE)
def test_tables_alone_are_the_whole_result(made: tuple[Trial, ...]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tables(folder, [*made, trial(warmup=True)])
        assert read_trials(folder) == list(made)


def test_columns_are_flat_and_sums_are_right(tmp_path: Path) -> None:
    made = trial("speculative", 5, 6, gamma=4)
    write_tables(tmp_path, [made])
    row = pd.read_parquet(tmp_path / "trials.parquet").iloc[0]
    assert (row["method"], row["gamma"], row["uplink_bytes_per_s"], row["n_tokens"]) == ("speculative", 4, 1e6, 2)
    assert row["ttft_s"] == made.ttft_s
    assert list(row["deliveries_at_s"]) == [one.at_s for one in made.deliveries]
    assert row["drafted"] == row["rounds"] == 0


def test_lines_come_before_tables_and_what_goes_on_keeps_both(tmp_path: Path) -> None:
    second = trial("on-device", 5)
    write_tables(tmp_path, [trial("server-only", 7)])
    found = read_trials(tmp_path)
    with TrialWriter(tmp_path, found) as writer:
        writer.append(second)
    assert read_trials(tmp_path) == [*found, second]


def test_tables_of_another_kind_are_refused_in_one_line(tmp_path: Path) -> None:
    old = pd.DataFrame({"trial": ["0000-000-server-only"], "ttft_s": [0.1]})
    old.to_parquet(tmp_path / tables.TRIALS)
    old.to_parquet(tmp_path / tables.ROUNDS)
    with pytest.raises(StoreError, match="of an older aiflow"):
        read_trials(tmp_path)
    (tmp_path / tables.ROUNDS).unlink()
    with pytest.raises(StoreError, match="cannot read the tables"):
        read_trials(tmp_path)
    replace_file(tmp_path / tables.TRIALS, b"no table")
    with pytest.raises(StoreError, match="cannot read the tables"):
        read_trials(tmp_path)


def documentation() -> str:
    """Both tables as Markdown: every column, its type, what it is. What `results/README.md` is to have."""
    parts = []
    for name, columns in ((tables.TRIALS, tables.trial_columns()), (tables.ROUNDS, tables.round_columns())):
        rows = [f"| `{c.name}` | {c.kind} | {c.about} |" for c in columns]
        parts.append("\n".join([f"### `{name}`", "", "| column | type | what |", "| --- | --- | --- |", *rows]))
    return "\n\n".join(parts)


def test_the_documentation_has_every_column_as_it_is() -> None:
    text = README.read_text(encoding="utf-8")
    found = re.search(r"<!-- columns -->\n(.*)\n<!-- end of columns -->", text, re.DOTALL)
    assert found
    assert found[1] == documentation()
    for columns in (tables.trial_columns(), tables.round_columns()):
        assert len({column.name for column in columns}) == len(columns)
        assert all(column.about for column in columns)
