"""Figures: drawn for every kind of result, legible at column width, the same bytes each time, data beside them."""

from __future__ import annotations

import csv
import io
import itertools
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aiflow_cli.analysis.curves import curves
from aiflow_cli.analysis.figures.plotting import FIGURES, plan, plot, slug
from aiflow_cli.analysis.figures.style import Drawing, looks, styled
from aiflow_cli.analysis.honesty import examine
from aiflow_cli.analysis.metrics import decode_tpot, latency_per_token
from aiflow_cli.analysis.report import Written
from aiflow_cli.analysis.result import Result, load
from aiflow_cli.analysis.study import Study
from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import StoreError, UsageError
from aiflow_cli.link.spec import LinkSpec
from tests.analysis.records import FakePair, FakeSweep, records, write_records, write_result

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

SMALLEST_PT = 5.5


@pytest.fixture(scope="module")
def folder(reported: Written) -> Path:
    """The figures of two pairs over one link."""
    return reported.html.parent / "figures"


@pytest.fixture(scope="module")
def drawings(
    figure6: Result, delays: Result, one_gamma: Result, tmp_path_factory: pytest.TempPathFactory
) -> list[Drawing]:
    """Every figure of four kinds of result."""
    pairs = (FakePair("internvl2-2b-26b", alpha=0.7), FakePair("internvl2-8b-26b"))
    long_names = load(write_result(tmp_path_factory.mktemp("long"), FakeSweep(pairs, gammas=(1, 4, 28), images=4)))
    with styled():
        plans = [plan(Study(figure6)), plan(Study(delays), ("round-time", "link"))]
        plans += [plan(Study(one_gamma), ("acceptance", "round-time")), plan(Study(long_names))]
        drawn = [draw() for planned, _ in plans for draw in planned.values()]
        for drawing in drawn:
            lay_out(drawing.figure)
    return drawn


def test_every_figure_in_every_format(folder: Path, reported: Written) -> None:
    names = {"figure6", "speedup", "acceptance", "round-time", "waterfall", "bytes"}
    assert not reported.skipped
    expected = {f"{name}.{extension}" for name in names for extension in ("png", "pdf", "svg", "csv")}
    assert {path.name for path in folder.iterdir()} == {path.name for path in reported.figures} == expected


def chunks(png: bytes) -> dict[bytes, bytes]:
    found, at = {}, 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        key, _, text = data.partition(b"\0") if kind in (b"tEXt", b"zTXt", b"iTXt") else (kind, b"", data)
        found[key] = zlib.decompress(text[1:]) if kind == b"zTXt" else text
        at += 12 + size
    return found


def test_png_is_a_column_wide_and_says_where_it_is_from(folder: Path) -> None:
    for path in folder.glob("*.png"):
        found = chunks(path.read_bytes())
        width, _ = struct.unpack(">II", found[b"IHDR"][:8])
        assert width == 1050  # 3.5 in at 300 dots per inch
        assert b"figure6-1a2b" in found[b"Description"]
        assert b"0123456789" in found[b"Description"]


def test_vector_files_say_where_they_are_from_and_hold_no_date(folder: Path) -> None:
    for path in (*folder.glob("*.svg"), *folder.glob("*.pdf")):
        data = path.read_bytes()
        assert b"figure6-1a2b" in data
        assert b"CreationDate" not in data
        assert b"dc:date" not in data


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_data_beside_a_figure_are_what_is_drawn(folder: Path, figure6: Result) -> None:
    weak = curves(figure6)[0]
    told = rows(folder / "figure6.csv")
    assert told[0]["method"] == "server-only"
    assert float(told[0]["decode_tpot_ms"]) == pytest.approx(weak.baseline.ms(decode_tpot).value, rel=1e-5)
    mine = [r for r in told if r["series"] == "small-weak"]
    assert [int(r["gamma"]) for r in mine] == weak.gammas
    for row, point in zip(mine, weak.points, strict=True):
        for column, value in zip(("", "_low", "_high"), point.arm.ms(latency_per_token), strict=True):
            assert float(row[f"latency_per_token_ms{column}"]) == pytest.approx(value, rel=1e-5)
    closed = [
        float(r["closed_form"])
        for r in rows(folder / "speedup.csv")
        if r["series"] == "small-weak" and r["closed_form"]
    ]
    assert closed == pytest.approx([weak.fit.model.speedup(g) for g in weak.gammas], rel=1e-5)


def test_parts_of_a_round_add_up(folder: Path) -> None:
    for row in rows(folder / "round-time.csv"):
        parts = sum(float(value) for name, value in row.items() if name.endswith("_ms") and not name.startswith("wall"))
        assert parts == pytest.approx(float(row["wall_ms"]), rel=1e-3)


def lay_out(figure: Figure) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).draw()


def texts(figure: Figure) -> list[Text]:
    from matplotlib.text import Text

    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]


def test_text_is_legible_and_on_the_page(drawings: list[Drawing]) -> None:
    with styled():
        for drawing in drawings:
            page = drawing.figure.bbox
            for text in texts(drawing.figure):
                assert float(text.get_fontsize()) >= SMALLEST_PT, (drawing.name, text.get_text())
                box = text.get_window_extent()
                inside = box.x0 >= -1 and box.x1 <= page.x1 + 1 and box.y0 >= -1 and box.y1 <= page.y1 + 1
                assert inside or not on_axis(drawing.figure, text), (drawing.name, text.get_text())


def on_axis(figure: Figure, text: Text) -> bool:
    """Whether a text is really drawn: tick labels outside the axis limits are not."""
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, sorted(axes.get_ylim()))):
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if text in (tick.label1, tick.label2):
                    return bool(min(low, high) <= tick.get_loc() <= max(low, high)) and bool(text.get_visible())
    return True


def test_labels_and_legends_do_not_overlap(drawings: list[Drawing]) -> None:
    with styled():
        for drawing in drawings:
            boxes = [(f"legend of {drawing.name}", legend.get_window_extent()) for legend in drawing.figure.legends]
            boxes += [(f"axes of {drawing.name}", box) for axes in drawing.figure.axes if (box := axes.get_tightbbox())]
            for (one, a), (other, b) in itertools.combinations(boxes, 2):
                width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
                assert min(width, height) < 2, f"{one} overlaps {other} in {drawing.name}"


def test_every_figure_says_what_it_shows(drawings: list[Drawing]) -> None:
    for drawing in drawings:
        assert drawing.alt
        assert len(drawing.caption) > 60
        for axes in drawing.figure.axes:
            if axes.get_xlabel() and "γ" not in axes.get_xlabel() and "position" not in axes.get_xlabel():
                assert "(" in axes.get_xlabel(), f"an axis of {drawing.name} has no unit"


def test_links_get_a_figure_of_their_own(delays: Result) -> None:
    planned, skipped = plan(Study(delays))
    assert {"figure6-1MBps", "figure6-1MBps-5ms", "figure6-1MBps-20ms", "speedup-1MBps-20ms", "best-delay"} <= {
        *planned
    }
    assert not skipped
    assert slug(LinkSpec(5e5, 2e6, delay_s=0.0125)) == "500KBps-up-2MBps-down-12.5ms"


def test_one_draft_length_has_no_curves(one_gamma: Result) -> None:
    planned, skipped = plan(Study(one_gamma))
    assert list(planned) == ["acceptance", "round-time", "waterfall", "bytes"]
    assert [name for name, _ in skipped] == ["figure6", "speedup"]
    with pytest.raises(UsageError, match=r"only one draft length \(4\)"):
        plan(Study(one_gamma), ["figure6"])
    with pytest.raises(UsageError, match="one link"):
        plan(Study(one_gamma), ["link"])
    with pytest.raises(UsageError, match="no figure 'pie'"):
        plan(Study(one_gamma), ["pie"])


def test_one_image_and_one_draft_length_are_drawn_whole(tmp_path: Path) -> None:
    """Whole markers, and whole numbers of tokens below them."""
    one = FakeSweep(pairs=(FakePair("small-weak"),), images=1, gammas=(4,), co_located=(), on_device=False)
    planned, _ = plan(Study(load(write_result(tmp_path, one))))
    with styled():
        figures = {name: draw().figure for name, draw in planned.items()}
        for figure in figures.values():
            lay_out(figure)
        for axes in figures["bytes"].axes:
            assert axes.get_ylim()[1] >= 1.03 * axes.dataLim.y1
        for name in ("acceptance", "round-time", "bytes"):
            for axes in figures[name].axes:
                assert all(float(tick).is_integer() for tick in axes.get_xticks()), name


def test_rates_in_a_figure_over_delay_look_different(tmp_path: Path) -> None:
    sweep = FakeSweep((FakePair("small"),), (2, 4), images=2, rates=(5e5, 1e6), delays=(0.0, 0.01), co_located=())
    planned, _ = plan(Study(load(write_result(tmp_path, sweep))), ["link"])
    with styled():
        top, *_ = planned["best-delay"]().figure.axes
    markers = {line.get_marker() for line in top.get_lines()} - {"_", "|"}
    assert len(markers) == 2


def test_each_target_has_its_own_server_only(tmp_path: Path) -> None:
    pairs = (FakePair("mine", target="large"), FakePair("yours", target="huge"))
    study = Study(load(write_result(tmp_path, FakeSweep(pairs, gammas=(2, 4), images=2, co_located=()))))
    planned, _ = plan(study)
    with styled():
        times, sizes = planned["figure6"](), planned["bytes"]()
    assert [row["series"] for row in times.rows if row["method"] == "server-only"] == ["large", "huge"]
    wanted = ["server-only, large", "server-only, huge"]
    for drawing, ending in ((times, ""), (sizes, ", down")):
        (legend,) = drawing.figure.legends
        assert {f"{name}{ending}" for name in wanted} <= {text.get_text() for text in legend.get_texts()}
    drift = examine(study).drift
    assert [line.split(":")[0] for line in drift] == wanted


def test_a_long_legend_leaves_its_panel_its_height(tmp_path: Path) -> None:
    pairs = tuple(FakePair(f"internvl2-{size}-26b") for size in ("1b", "2b", "4b", "8b"))
    planned, _ = plan(Study(load(write_result(tmp_path, FakeSweep(pairs, gammas=(2, 4), images=2)))), ["speedup"])
    with styled():
        figure = planned["speedup"]().figure
        lay_out(figure)
        assert figure.axes[0].get_position().height * figure.get_figheight() > 1.3


def test_nothing_to_draw(tmp_path: Path) -> None:
    write_records(tmp_path, [r for r in records(FakeSweep(images=2)) if r.setting.method is Method.SERVER_ONLY])
    with pytest.raises(StoreError, match="nothing to draw"):
        plot(load(tmp_path), tmp_path / "figures")


def test_pairs_keep_their_looks() -> None:
    assert looks(["small"])["small"] == looks(["small-weak", "small"])["small"]
    many = looks(["small", "mine", "yours", *map(str, range(9))])
    assert len({many[pair] for pair in ("small", "mine", "yours")}) == 3
    assert set(FIGURES) == {"figure6", "speedup", "acceptance", "round-time", "waterfall", "bytes", "link"}
