"""No letter of a table is ever cut, however narrow the terminal: texts are broken, columns are left out and named."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from aiflow_cli.cli.app import app
from aiflow_cli.cli.output import GAP, lay_out, print_table
from tests.analysis.records import FakePair, FakeSweep, write_result

WIDTHS = [40, 60, 80, 200]
HEADINGS = ["name", "what it is", "tokens\nper round", "ms", "verdict"]
CELLS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]) | st.sampled_from(" \n[/]"), max_size=60)
SMALL = FakeSweep(pairs=(FakePair("small"),), images=2, gammas=(2, 4), co_located=())


def letters(*texts: str) -> Counter[str]:
    return Counter(letter for text in texts for letter in text if not letter.isspace() and letter != "─")


def shown(width: int, rows: list[list[str]], first_out: list[str]) -> tuple[str, str]:
    """Standard output and standard error of a table on a terminal of that width."""
    out, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        patch.setenv("COLUMNS", str(width))
        print_table(HEADINGS, rows, left=2, first_out=first_out)
    return out.getvalue(), errors.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
@given(
    rows=st.lists(st.lists(CELLS, min_size=5, max_size=5), max_size=3), first_out=st.sets(st.sampled_from(HEADINGS[1:]))
)
def test_every_letter_is_there_or_its_column_is_named(width: int, rows: list[list[str]], first_out: set[str]) -> None:
    out, errors = shown(width, rows, sorted(first_out))
    gone = [i for i, heading in enumerate(HEADINGS) if " ".join(heading.split()) in errors]
    assert {HEADINGS[i] for i in gone} <= first_out
    kept = [cell for row in [HEADINGS, *rows] for i, cell in enumerate(row) if i not in gone]
    assert letters(out) == letters(*kept)


WIDTH_PAIRS = st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda pair: (max(pair), min(pair)))


@given(st.lists(WIDTH_PAIRS, min_size=1, max_size=12), st.integers(1, 250), st.data())
def test_a_table_is_no_wider_than_it_need_be(needs: list[tuple[int, int]], width: int, data: st.DataObject) -> None:
    droppable = data.draw(st.lists(st.integers(0, len(needs) - 1), unique=True, max_size=len(needs) - 1))
    whole, least = [need[0] for need in needs], [need[1] for need in needs]
    kept, widths = lay_out(whole, least, width, droppable)
    left_out = set(range(len(needs))) - set(kept)
    assert left_out == set(droppable[: len(left_out)])  # in the stated order
    assert all(taken <= whole[i] for i, taken in zip(kept, widths, strict=True))
    if sum(whole) + GAP * (len(needs) - 1) <= width:
        assert widths == whole
    if sum(least[i] for i in kept) + GAP * (len(kept) - 1) <= width:
        assert sum(widths) + GAP * (len(kept) - 1) <= width


@pytest.mark.parametrize(
    "environment",
    [
        *({"COLUMNS": str(width)} for width in WIDTHS),
        {"FORCE_COLOR": "1"},
        {"TERM": "dumb"},
        {"FORCE_COLOR": "1", "COLUMNS": "60"},
    ],
    ids=str,
)
@pytest.mark.parametrize("command", ["results", "compare", "pairs"])
def test_commands_cut_nothing(command: str, environment: dict[str, str], tmp_path: Path) -> None:
    names = ("20260101-081041-run", "20260101-081041-run-2")
    a, b = (write_result(tmp_path / name, SMALL) for name in names)
    arguments = {"results": [str(tmp_path)], "compare": [str(a), str(b)], "pairs": ["list"]}[command]
    done = CliRunner().invoke(app, [command, *arguments], env=environment)
    assert done.exit_code == 0, done.output
    assert "…" not in done.stdout
    assert "..." not in done.stdout
    words = {"results": names, "compare": ("server-only", "on-device"), "pairs": ("internvl2-2b-26b",)}[command]
    for word in words:
        assert word in done.stdout


def test_what_goes_first_is_what_matters_least(tmp_path: Path) -> None:
    write_result(tmp_path / "one", SMALL)
    done = CliRunner().invoke(app, ["results", str(tmp_path)], env={"COLUMNS": "60"})
    assert "left out for want of room: data; began; commit (" in done.stderr
    assert "complete" in done.stdout
    assert "began" not in done.stdout


def test_a_long_difference_in_set_up_is_shown_whole(tmp_path: Path) -> None:
    pairs = (FakePair("small"), *(FakePair(f"a-rather-long-name-of-a-pair-{n}") for n in range(4)))
    a = write_result(tmp_path / "a", SMALL)
    b = write_result(tmp_path / "b", FakeSweep(pairs=pairs, images=2, gammas=(2, 4), co_located=()))
    done = CliRunner().invoke(app, ["compare", str(a), str(b)], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    flat = "".join(done.stdout.split())
    assert all(pair.name in flat for pair in pairs)
    assert letters(done.stdout)["…"] == 0
