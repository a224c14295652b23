"""How results are shown: tables, one JSON document, plain lines. Data on standard output, all else on standard error.

NO_COLOR is respected (rich does); off a terminal there is no colour and no cursor movement. Names are shown as they
are: nothing in them is taken for markup, and what the terminal has no sign for is spelt out (`aiflow_cli/text.py`).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from aiflow_cli.text import printable, printable_json

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
PLAIN_WIDTH = 200  # the width of a table where there is no terminal and COLUMNS does not say
GAP = 2  # spaces between columns
_LONG_WORD = 24
"""A longer word of a text claims no more than this: it is folded before another column is left out for it."""
_NARROWEST = 4


def say(line: object) -> None:
    """A line on standard output. (typer's own way puts another stream in the place of one that knows ASCII only.)"""
    print(line, flush=True)


def note(line: str) -> None:
    """A line on standard error. One that nobody can read is no reason to end a run."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on standard output, of ASCII alone: it means the same whatever the encoding."""
    say(json.dumps(printable_json(document), indent=2, allow_nan=False))


def present(as_json: bool, document: Mapping[str, Any], in_words: Callable[[], None]) -> None:
    """The result of a command on standard output: its document, or what `in_words` prints for people."""
    if as_json:
        print_json(document)
    else:
        in_words()


def console(stderr: bool = False) -> Console:
    """A console on standard output (or error) that shows text as it is."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def print_items(columns: Mapping[str, Callable[[T], str]], items: Iterable[T], **options: Any) -> None:
    """A table with a row for each item; under each heading is what its function gives. `options` as `print_table`'s."""
    print_table(tuple(columns), [[cell(item) for cell in columns.values()] for item in items], **options)


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
    from rich import box
    from rich.cells import cell_len
    from rich.console import ConsoleDimensions
    from rich.table import Table
    from rich.text import Text

    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    cells = [[printable(cell, encoding) for cell in row] for row in (columns, *rows)]
    by_column = ["\n".join(column) for column in zip(*cells, strict=True)]
    whole = [max(cell_len(line) for line in column.split("\n")) for column in by_column]
    words = [max(map(cell_len, column.split()), default=0) for column in by_column]
    least = [min(word, _LONG_WORD) if i < left else whole[i] for i, word in enumerate(words)]
    width = shutil.get_terminal_size((PLAIN_WIDTH, 0)).columns
    kept, widths = lay_out(whole, least, width, [list(columns).index(heading) for heading in first_out])
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0), header_style="bold")
    for i, taken in zip(kept, widths, strict=True):
        table.add_column(Text(cells[0][i]), justify="left" if i < left else "right", width=taken, overflow="fold")
    for row in cells[1:]:
        table.add_row(*(Text(row[i], style=(styles or {}).get(row[i], "")) for i in kept))
    out = console()
    out.size = ConsoleDimensions(sum(widths) + GAP * len(widths), out.height)  # not what rich takes a pipe for
    out.print(table, "", crop=False)
    if gone := [" ".join(heading.split()) for i, heading in enumerate(columns) if i not in kept]:
        note(f"left out for want of room: {'; '.join(gone)} (a wider terminal shows them, --json has them all)")


def lay_out(
    whole: Sequence[int], least: Sequence[int], width: int, droppable: Sequence[int]
) -> tuple[list[int], list[int]]:
    """The columns of a table of `width`, by index, and how wide each is: no more than its longest line (`whole`), and
    no less than reads well (`least`). While there is no room for all, those in `droppable` go, in that order.

    What is left is then folded; where even that has no room, the table is wider than `width`. No letter is left out.
    """
    kept = list(range(len(whole)))
    for index in droppable:
        if sum(least[i] + GAP for i in kept) - GAP > width:
            kept.remove(index)
    room = width - GAP * (len(kept) - 1)
    widths = [least[i] for i in kept]
    if sum(widths) > room:
        widths = [min(taken, _NARROWEST) for taken in widths]
    while sum(widths) < room and (short := [i for i, of in enumerate(kept) if widths[i] < whole[of]]):
        widths[min(short, key=widths.__getitem__)] += 1  # the narrowest first
    return kept, widths
