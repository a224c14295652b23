"""How every figure looks, and how it is written: the same colours, markers, units and sizes throughout.

Width is a column of a two-column paper (3.5 in). Colours are Okabe and Ito's, told apart by colour-blind eyes; nothing
rests on colour alone, markers and line styles differ too. Files are the same, byte for byte, for the same data: no
dates, fixed ids.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiflow_cli.analysis.intervals import Interval
from aiflow_cli.text import SPELT_OUT
from aiflow_cli.trials.store import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_IN = 3.5
"""Width of a column of a two-column paper."""
PNG_DPI = 300
_KEY_IN, _LETTER_IN = 0.33, 0.05
"""What a legend's key and a letter of its text take, at its font size."""
BLACK, GREY, LIGHT = "#000000", "#6b6b6b", "#b8b8b8"
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, ORANGE, PALE_ORANGE = "#56B4E9", "#E69F00", "#F6D08A"


class Look(NamedTuple):
    """A curve's colour, marker and line style."""

    color: str
    marker: str
    line: str | tuple[int, tuple[float, ...]]


_LOOKS = (
    Look(BLUE, "o", "-"),
    Look(VERMILLION, "s", (0, (5, 1.5))),
    Look(GREEN, "^", (0, (3, 1, 1, 1))),
    Look(PURPLE, "D", (0, (1, 1))),
    Look(ORANGE, "v", (0, (6, 1, 1, 1, 1, 1))),
    Look(SKY, "P", (0, (2, 1))),
)
_FIXED = {"small-weak": 0, "small": 1, "internvl2-2b-26b": 0, "internvl2-8b-26b": 1, "internvl2-2b-8b": 2}
"""Pairs that look the same in every figure."""


def looks(pairs: Sequence[str]) -> dict[str, Look]:
    """The look of each pair: fixed for the known ones, then the next that is free."""
    taken = {_FIXED[pair] for pair in pairs if pair in _FIXED}
    free = iter([place for place in range(len(_LOOKS)) if place not in taken] + list(range(len(_LOOKS))) * len(pairs))
    return {pair: _LOOKS[_FIXED[pair] if pair in _FIXED else next(free)] for pair in pairs}


class Table(NamedTuple):
    """The data of a figure, as its CSV holds them; a cell of None is empty."""

    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]


def table(rows: Iterable[Mapping[str, object]]) -> Table:
    """Rows by column; an interval fills three columns, and what a row does not tell is empty."""
    wide = [dict(cell for name, value in row.items() for cell in _cells(name, value)) for row in rows]
    columns = tuple(dict.fromkeys(name for row in wide for name in row))
    return Table(columns, [tuple(map(row.get, columns)) for row in wide])


def _cells(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Interval):
        yield from ((name, value.value), (f"{name}_low", value.low), (f"{name}_high", value.high))
    else:
        yield name, value


@dataclass(frozen=True)
class Drawing:
    """A figure with its data. `title` is a line, `caption` says what is shown and how, `alt` what one would see."""

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    table: Table


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save within this."""
    import matplotlib as mpl

    look = mpl.rc_params_from_file(Path(__file__).with_name("aiflow.mplstyle"), use_default_template=False)
    with mpl.rc_context({**mpl.rcParamsDefault, **look, "backend": mpl.rcParams["backend"]}):
        yield


def new_figure(height_in: float) -> Figure:
    """An empty figure of column width."""
    from matplotlib.figure import Figure

    return Figure(figsize=(COLUMN_IN, height_in))


def error_bars(interval: Interval) -> tuple[float, float]:
    """Lengths below and above the value, as matplotlib wants them; NaN draws no bar, where there is no interval."""
    return max(interval.value - interval.low, 0.0), max(interval.high - interval.value, 0.0)


def span(intervals: Iterable[Interval]) -> tuple[float, float] | None:
    """The lowest and the highest of all that is drawn of some values with intervals; None if that is nothing."""
    drawn = [number for interval in intervals for number in interval if math.isfinite(number)]
    return (min(drawn), max(drawn)) if drawn else None


def draw_points(
    axes: Axes, x: Sequence[float], y: Sequence[Interval], look: Look, label: str, style: str = "joined"
) -> None:
    """Points with intervals: `joined` by the look's line, only `dots`, or `open` (hollow, dotted) for others."""
    line = {"joined": look.line, "dots": "none", "open": (0, (1, 1.5))}[style]
    face = "white" if style == "open" else look.color
    marks = {"color": look.color, "marker": look.marker, "linestyle": line, "markerfacecolor": face}
    draw_bars(axes, x, y, label=label, **marks)


def draw_bars(axes: Axes, x: Sequence[float], y: Sequence[Interval], **how: Any) -> None:
    """Values with their intervals as bars."""
    bars = list(zip(*map(error_bars, y), strict=True))
    axes.errorbar(x, [i.value for i in y], yerr=bars, elinewidth=0.7, capsize=1.4, capthick=0.7, zorder=3, **how)


def draw_level(axes: Axes, level: Interval, label: str, color: str = BLACK, line: str = "--") -> None:
    """A horizontal line with its interval, if it has one, as a band."""
    if level.known:
        axes.axhspan(level.low, level.high, color=color, alpha=0.15, linewidth=0, zorder=1)
    axes.axhline(level.value, color=color, linestyle=line, linewidth=1.0, label=label, zorder=2)


def place_legend(figure: Figure, axes: Axes, columns: int = 1, *, backwards: bool = False) -> None:
    """A legend of `axes` above the panels, in at most so many columns, fewer where its texts are too long."""
    handles, labels = axes.get_legend_handles_labels()
    if backwards:
        handles, labels = handles[::-1], labels[::-1]
    fitting = next((n for n in range(columns, 1, -1) if _legend_width_in(labels, n) <= COLUMN_IN), 1)
    figure.legend(handles, labels, loc="outside upper left", ncols=fitting, columnspacing=1.0)


def _legend_width_in(labels: Sequence[str], columns: int) -> float:
    """About the width of a legend in inches; it is filled column by column."""
    rows = -(-len(labels) // columns)
    return sum(_KEY_IN + _LETTER_IN * max(map(len, labels[at : at + rows])) for at in range(0, len(labels), rows))


def render(drawing: Drawing, extension: str, run_id: str, commit: str) -> bytes:
    """The bytes of a figure as png, pdf or svg, with run id and commit in its metadata. Call within `styled()`."""
    title, about = f"{drawing.title} ({run_id})", f"result {run_id}, commit {commit}"
    metadata: Mapping[str, Mapping[str, object]] = {
        "png": {"Title": title, "Description": about, "Software": "aiflow"},
        "pdf": {"Title": title, "Subject": about, "Creator": "aiflow", "Producer": None, "CreationDate": None},
        "svg": {"Title": title, "Description": about, "Creator": "aiflow", "Date": None},
    }
    buffer = io.BytesIO()
    drawing.figure.savefig(buffer, format=extension, dpi=PNG_DPI, metadata=metadata[extension])
    return buffer.getvalue()


def write_drawing(drawing: Drawing, folder: Path, run_id: str, commit: str) -> list[Path]:
    """Write a figure as PNG, PDF and SVG, and its data as CSV. Call within `styled()`. Raises StoreError."""
    drawing.figure.draw_without_rendering()
    drawing.figure.set_layout_engine("none")  # laid out once, for all formats
    paths = []
    for extension in ("png", "pdf", "svg"):
        paths.append(folder / f"{drawing.name}.{extension}")
        replace_file(paths[-1], render(drawing, extension, run_id, commit))
    paths.append(folder / f"{drawing.name}.csv")
    replace_file(paths[-1], csv_bytes(drawing.table))
    return paths


def csv_bytes(table: Table) -> bytes:
    """A table as CSV; floats with six significant digits."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([[_cell(cell) for cell in row] for row in table.rows])
    return buffer.getvalue().encode("utf-8", SPELT_OUT)


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else value
