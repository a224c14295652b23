"""`aiflow plot`: the figures of results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiflow_cli.cli.options import Json, Results, path_option
from aiflow_cli.cli.output import note, present, say
from aiflow_cli.cli.progress import progress
from aiflow_cli.cli.results import read_result

if TYPE_CHECKING:
    from aiflow_cli.analysis.figures.plotting import Plotted

EXAMPLES = """\
aiflow plot results/figure6-1a2b3c4d             every figure that the result has: PNG, PDF, SVG, and its data as CSV
aiflow plot figure6-1a2b3c4d --figure speedup -o paper/figures
aiflow plot results/* --trace                    and one image's responses for ui.perfetto.dev
"""
_FIGURES = "figure6, speedup, acceptance, round-time, waterfall, bytes or link; may be repeated. (default: all)"
_OUTPUT = "Folder of the files, one in it for each of several results. (default: RESULT/figures)"
_TRACE = "Also write trace.json: one image's responses as Chrome trace events."


def plot(
    results: Results,
    figure: Annotated[list[str] | None, typer.Option("--figure", "-f", help=_FIGURES)] = None,
    output: Annotated[Path | None, path_option(_OUTPUT)] = None,
    trace: Annotated[bool, typer.Option("--trace", help=_TRACE)] = False,
    image: Annotated[str | None, typer.Option("--image", help="The image of --trace. (default: a typical one)")] = None,
    json_: Json = False,
) -> None:
    """Draw figures from results: PNG, PDF and SVG at the width of a column, with their data as CSV beside them."""
    from aiflow_cli.analysis.figures import plotting
    from aiflow_cli.analysis.result import find

    plotting.check_names(figure or ())
    done: dict[Path, Plotted] = {}
    for folder, place in plotting.places([find(result) for result in results], output).items():
        result = read_result(folder)
        with progress(f"figures of {result.run_id}") as show:
            done[folder] = plotting.plot(result, place, figure or (), trace, image, show)
    for folder, plotted in done.items():
        for name, reason in plotted.skipped:
            note(f"no {name}: {reason}" if len(done) == 1 else f"{folder}: no {name}: {reason}")
    paths = [str(path) for plotted in done.values() for path in plotted.paths]
    told = [
        {
            "result": str(folder),
            "figures": [
                {"name": drawing.name, "title": drawing.title, "files": [str(file) for file in files]}
                for drawing, files in plotted.drawings
            ],
            "trace": str(plotted.trace) if plotted.trace else None,
            "skipped": [{"figure": name, "reason": reason} for name, reason in plotted.skipped],
        }
        for folder, plotted in done.items()
    ]
    present(json_, {"results": told}, lambda: say("\n".join(paths)))
