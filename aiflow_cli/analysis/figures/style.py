"""How every figure looks, and how it is written: the same colours, markers, units and sizes throughout.

Width is a column of a two-column paper (3.5 in). Colours are Okabe and Ito's, told apart by colour-blind eyes; nothing
rests on colour alone, markers and line styles differ too. Files are the same, byte for byte, for the same data: no
dates, fixed ids.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
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
GAMMA_LABEL = "draft length γ (tokens)"
_ROOM = 1.03
"""Above the highest of all that is drawn, so that its marker is whole."""
_KEY_IN, _LETTER_IN = 0.33, 0.05
"""What a legend's key and a letter of its text take, at its font size."""
_ROW_IN, _USUAL_ROWS = 0.13, 4
"""The height of a legend's row, and how many rows a figure has room for."""
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


Row = dict[str, Any]
"""A row of a figure's data by column; an interval fills three."""


class Drawing(NamedTuple):
    """A figure with its data. `alt` says what one would see; `words`: what title and caption need beyond the usual."""

    figure: Figure
    rows: list[Row]
    alt: str
    words: Mapping[str, object] = MappingProxyType({})
    name: str = ""
    title: str = ""
    caption: str = ""


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save within this."""
    import matplotlib as mpl

    look = mpl.rc_params_from_file(Path(__file__).with_name("aiflow.mplstyle"), use_default_template=False)
    with mpl.rc_context({**mpl.rcParamsDefault, **look, "backend": mpl.rcParams["backend"]}):
        yield


def panels(height_in: float, ratios: Sequence[float], *, x: bool = True, y: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of column width, with panels one above the other, as high as `ratios` say; they share axes x and y."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMN_IN, height_in))
    return figure, list(figure.subplots(len(ratios), sharex=x, sharey=y, squeeze=False, height_ratios=ratios)[:, 0])


def name_axes(panels: Sequence[Axes], x: str, *y: str) -> None:
    """Name the axes of panels that are drawn, which begin at 0; x is that of the lowest."""
    for axes, label in zip(panels, y, strict=True):
        axes.set_ylabel(label)
        axes.set_ylim(0, max(axes.get_ylim()[1], _ROOM * axes.dataLim.y1))
    panels[-1].set_xlabel(x)
    panels[-1].tick_params(labelbottom=True)
    if x == GAMMA_LABEL:
        count_along(panels[-1])


def count_along(axes: Axes) -> None:
    """Whole numbers only along x, also where there is but one."""
    axes.locator_params("x", integer=True, min_n_ticks=1)


def draw_points(
    axes: Axes, x: Sequence[float], y: Sequence[Interval], look: Look, label: str, style: str = "joined"
) -> None:
    """Points with intervals: `joined` by the look's line, only `dots`, or `open` (hollow, dotted) for others."""
    line = {"joined": look.line, "dots": "none", "open": (0, (1, 1.5))}[style]
    face = "white" if style == "open" else look.color
    draw_bars(axes, x, y, label=label, color=look.color, marker=look.marker, linestyle=line, markerfacecolor=face)


def draw_bars(axes: Axes, x: Sequence[float], y: Sequence[Interval], **how: Any) -> None:
    """Values with their intervals as bars; none where there is no interval."""
    bars = [(max(i.value - i.low, 0.0), max(i.high - i.value, 0.0)) for i in y]  # NaN draws no bar
    how |= {"elinewidth": 0.7, "capsize": 1.4, "capthick": 0.7, "zorder": 3}
    axes.errorbar(x, [i.value for i in y], yerr=list(zip(*bars, strict=True)), **how)


def draw_level(axes: Axes, level: Interval, label: str, color: str = BLACK, line: str = "--") -> None:
    """A horizontal line with its interval, if it has one, as a band."""
    if level.known:
        axes.axhspan(level.low, level.high, color=color, alpha=0.15, linewidth=0, zorder=1)
    axes.axhline(level.value, color=color, linestyle=line, linewidth=1.0, label=label, zorder=2)


def server_only(target: str, look: Look) -> tuple[str, str]:
    """Label and colour of server-only's level: black, or of its curves where there are several targets."""
    return (f"server-only, {target}", look.color) if target else ("server-only", BLACK)


def place_legend(figure: Figure, axes: Axes, columns: int = 1, *, backwards: bool = False) -> None:
    """A legend of `axes` above the panels, in at most so many columns, fewer where its texts are too long.

    A figure grows with a legend of many rows, so that its panels keep their height.
    """
    handles, labels = axes.get_legend_handles_labels()

    def width_in(columns: int) -> float:
        """About the legend's; it is filled column by column."""
        rows = -(-len(labels) // columns)
        return sum(_KEY_IN + _LETTER_IN * max(map(len, labels[at : at + rows])) for at in range(0, len(labels), rows))

    fitting = next((n for n in range(columns, 1, -1) if width_in(n) <= COLUMN_IN), 1)
    more_rows = max(0, -(-len(labels) // fitting) - _USUAL_ROWS)
    figure.set_figheight(figure.get_figheight() + _ROW_IN * more_rows)
    figure.legend(handles, labels, loc="outside upper left", ncols=fitting, columnspacing=1.0, reverse=backwards)


def write_drawing(drawing: Drawing, folder: Path, run_id: str, commit: str) -> list[Path]:
    """Write a figure as PNG, PDF and SVG that tell run id and commit, and its data as CSV. Call within `styled()`."""
    title, about = f"{drawing.title} ({run_id})", f"result {run_id}, commit {commit}"
    formats: dict[str, dict[str, str | None]] = {
        "png": {"Title": title, "Description": about, "Software": "aiflow"},
        "pdf": {"Title": title, "Subject": about, "Creator": "aiflow", "Producer": None, "CreationDate": None},
        "svg": {"Title": title, "Description": about, "Creator": "aiflow", "Date": None},
    }
    drawing.figure.draw_without_rendering()
    drawing.figure.set_layout_engine("none")  # laid out once, for all formats
    files = {"csv": csv_bytes(drawing.rows)}
    for extension, metadata in formats.items():
        buffer = io.BytesIO()
        drawing.figure.savefig(buffer, format=extension, dpi=PNG_DPI, metadata=metadata)
        files[extension] = buffer.getvalue()
    paths = {extension: folder / f"{drawing.name}.{extension}" for extension in (*formats, "csv")}
    for extension, path in paths.items():
        replace_file(path, files[extension])
    return list(paths.values())


def csv_bytes(rows: Sequence[Row]) -> bytes:
    """Rows as CSV; floats with six significant digits, and what a row does not tell is empty."""
    wide = [dict(cell for name, value in row.items() for cell in _cells(name, value)) for row in rows]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(name for row in wide for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(wide)
    return buffer.getvalue().encode("utf-8", SPELT_OUT)


def _cells(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Interval):
        for end, number in zip(("", "_low", "_high"), value, strict=True):
            yield from _cells(f"{name}{end}", number)
    elif isinstance(value, float):
        yield name, "" if math.isnan(value) else f"{value:.6g}"
    else:
        yield name, value
