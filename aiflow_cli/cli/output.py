"""How results are shown: tables, one JSON document, plain lines. Data on standard output, all else on standard error.

NO_COLOR is respected (rich does); off a terminal there is no colour and no cursor movement. Names are shown as they
are: nothing in them is taken for markup, and what the terminal has no sign for is spelt out (`aiflow_cli/text.py`).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiflow_cli.cli.layout import GAP, Layout, Need, lay_out
from aiflow_cli.text import printable, printable_json

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 200
"""The width of a table where there is no terminal and COLUMNS does not say."""


def console(stderr: bool = False) -> Console:
    """A console on standard output (or error) that shows text as it is."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on standard output, of ASCII alone: it means the same whatever the encoding."""
    say(json.dumps(printable_json(document), indent=2, allow_nan=False))


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: int = 1,
    first_out: Sequence[str] = (),
    styles: Mapping[str, str] | None = None,
) -> None:
    """A table on standard output. The first `left` columns are texts, flush left; the others are figures, flush right.

    A newline in a heading or a cell breaks it. `styles`: the style of every cell that holds just that text. No letter
    is ever cut. Where a terminal is too narrow, texts are broken between words; if that does not do, the columns
    `first_out` (their headings) are left out in that order, and a note names them; then words are broken.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    cells = [[printable(cell, encoding) for cell in row] for row in (columns, *rows)]
    needs = [_need(column, i < left) for i, column in enumerate(zip(*cells, strict=True))]
    width = shutil.get_terminal_size((PLAIN_WIDTH, 0)).columns
    layout = lay_out(needs, width, [list(columns).index(heading) for heading in first_out])
    _print(cells, layout, left, styles or {})
    if gone := [" ".join(heading.split()) for i, heading in enumerate(columns) if i not in layout.kept]:
        note(f"left out for want of room: {'; '.join(gone)} (a wider terminal shows them, --json has them all)")


def _need(column: Sequence[str], text: bool) -> Need:
    from rich.cells import cell_len

    whole = max(cell_len(line) for cell in column for line in cell.split("\n"))
    return Need(whole, max((cell_len(word) for cell in column for word in cell.split()), default=0), text)


def _print(cells: Sequence[Sequence[str]], layout: Layout, left: int, styles: Mapping[str, str]) -> None:
    from rich import box
    from rich.console import ConsoleDimensions
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0), header_style="bold")
    headings, *rows = ([row[i] for i in layout.kept] for row in cells)
    for index, heading, width in zip(layout.kept, headings, layout.widths, strict=True):
        justify: Any = "left" if index < left else "right"
        table.add_column(Text(heading), justify=justify, width=width, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=styles.get(cell, "")) for cell in row))
    out = console()
    width = sum(layout.widths) + GAP * len(layout.widths)  # not what rich takes a pipe for
    out.size = ConsoleDimensions(width, out.height)
    out.print(table, "", crop=False)


def say(line: object) -> None:
    """A line on standard output. (typer's own way puts another stream in the place of one that knows ASCII only.)"""
    print(line, flush=True)


def note(line: str) -> None:
    """A line on standard error. One that nobody can read is no reason to end a run."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)
