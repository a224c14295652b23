"""How results are shown: tables, one JSON document, plain lines. Data on standard output, everything else on standard error.

NO_COLOR is respected (rich does); off a terminal there is no colour, no cursor movement and no wrapping.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 200


def console(stderr: bool = False) -> Console:
    """A console on standard output (or error), wide enough for a table where there is no terminal."""
    from rich.console import Console

    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=PLAIN_WIDTH, soft_wrap=True)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> None:
    """A table on standard output; the first `left` columns flush left, the others right. A newline in a heading or a cell breaks it.

    Never cut: a terminal that is too narrow wraps it.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, heading in enumerate(columns):
        table.add_column(heading, justify="left" if index < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    out = console()
    out.width = max(out.width, out.measure(table).maximum)
    out.print(table, soft_wrap=False, crop=False)


def note(line: str) -> None:
    """A line on standard error."""
    typer.echo(line, err=True)
