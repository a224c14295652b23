"""Which figures a result has; drawing them all into files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from aiflow_cli.analysis.figures import gamma, rounds
from aiflow_cli.analysis.figures.style import Drawing, styled, write_drawing
from aiflow_cli.analysis.figures.timeline import chrome_trace, waterfall
from aiflow_cli.analysis.result import Result, link_label
from aiflow_cli.analysis.study import Study
from aiflow_cli.errors import AiflowError, StoreError, UsageError
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.trials.store import make_folder, owned, replace_file

Show = Callable[[int, int], None]
"""Gets the number of steps done and to be done."""
Draw = Callable[[], Drawing]
FIGURES: dict[str, Callable[[Study, LinkSpec], Drawing]] = {
    "figure6": gamma.figure6,
    "speedup": gamma.speedup,
    "acceptance": rounds.acceptance,
    "round-time": rounds.round_time,
    "waterfall": waterfall,
    "bytes": rounds.bytes_per_token,
    "link": gamma.best_over_link,
}
"""The figures by name, in their order. What they say is in templates/figures.toml."""
EACH_LINK = ("figure6", "speedup")
"""Figures that are drawn for each link; the others show the reference link, or all."""


class Plotted(NamedTuple):
    """What was written: each drawing with its files, and what could not be drawn and why."""

    drawings: list[tuple[Drawing, list[Path]]]
    skipped: list[tuple[str, str]]
    trace: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [path for _, paths in self.drawings for path in paths] + ([self.trace] if self.trace else [])


def check_names(names: Collection[str]) -> None:
    """Raise UsageError for a figure that there is not."""
    for name in names:
        if name not in FIGURES:
            raise UsageError(f"no figure {name!r}: give one of {', '.join(FIGURES)}")


def plan(study: Study, only: Collection[str] = ()) -> tuple[dict[str, Draw], list[tuple[str, str]]]:
    """The figures of a result by name, and those (name, reason) that it cannot have: one of `only` raises instead."""
    check_names(only)
    figures, skipped = dict[str, Draw](), list[tuple[str, str]]()
    for name in only or FIGURES:
        try:
            figures |= _of_kind(study, name)
        except AiflowError as error:
            if only:
                raise
            if name != "link":  # nearly every result has one link: no news
                skipped.append((name, str(error)))
    if not figures:
        raise StoreError(f"{study.result.folder} has nothing to draw: {skipped[0][1]}")
    return figures, skipped


def _of_kind(study: Study, kind: str) -> dict[str, Draw]:
    """The figures of a kind by their own names. Raises UsageError where the result cannot have it."""
    links, name = (study.links if kind in EACH_LINK else [study.reference_link]), kind
    if kind == "link":
        name = f"best-{gamma.link_axis(study).name}"
    for curve in study.curves if kind in (*EACH_LINK, "link") else ():
        if len(curve.gammas) < 2:
            only = f"{study.result.folder} has only one draft length ({curve.gammas[0]})"
            raise UsageError(f"{only}: a curve needs more, `aiflow sweep quick` measures them")
    names = {name if len(links) == 1 else f"{name}-{slug(link)}": link for link in links}
    return {named: partial(_drawing, study, kind, named, link) for named, link in names.items()}


def _drawing(study: Study, kind: str, name: str, link: LinkSpec) -> Drawing:
    drawn, images = FIGURES[kind](study, link), study.over(link)[0].images
    told = {"link": link_label(link), "images": images, "data": study.result.data_name, "bars": study.about_bars}
    title, caption = (_texts()[kind][part].strip().format(**told, **drawn.words) for part in ("title", "caption"))
    return drawn._replace(name=name, title=title, caption=caption)


@cache
def _texts() -> dict[str, dict[str, str]]:
    return tomllib.loads((Path(__file__).parents[1] / "templates" / "figures.toml").read_text())


def draw_all(result: Result, figures: dict[str, Draw], folder: Path, show: Show) -> list[tuple[Drawing, list[Path]]]:
    """Draw figures into a folder; each drawing with its files."""
    written = []
    for done, draw in enumerate(figures.values()):
        show(done, len(figures))
        with styled():
            drawing = draw()
            written.append((drawing, write_drawing(drawing, folder, result.run_id, result.commit)))
    show(len(figures), len(figures))
    return written


def plot(
    result: Result,
    folder: Path | None = None,
    only: Collection[str] = (),
    trace: bool = False,
    image_id: str | None = None,
    show: Show = lambda done, total: None,
) -> Plotted:
    """Draw the figures of a result into `folder` (its own `figures/`).

    `trace`: also write `trace.json`, all responses to one image for ui.perfetto.dev. Raises UsageError, StoreError.
    """
    study = Study(result)
    planned, skipped = plan(study, only)
    target = make_folder(folder or result.folder / "figures")
    with owned(target):
        drawings, path = draw_all(result, planned, target, show), target / "trace.json"
        if trace:
            about = f"result {result.run_id}, commit {result.commit}"
            replace_file(path, chrome_trace(study.responses(image_id), about))
        return Plotted(drawings, skipped, path if trace else None)


def places(folders: Sequence[Path], output: Path | None) -> dict[Path, Path | None]:
    """Where the figures of each result go: of one into `output`, of several into a folder of each one's name in it.

    A result that is named twice counts once. Raises UsageError for two of one name, whose figures would mix.
    """
    results = {folder.resolve(): folder for folder in folders}
    if output is None or len(results) == 1:
        return dict.fromkeys(results.values(), output)
    found: dict[str, Path] = {}
    for whole, folder in results.items():
        if (other := found.setdefault(whole.name, folder)) != folder:
            raise UsageError(f"{other} and {folder} would both go into {output / whole.name}: plot them one at a time")
    return {folder: output / name for name, folder in found.items()}


def slug(link: LinkSpec) -> str:
    """A link as part of a file's name: `500KBps`, `1MBps-5ms`."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", re.sub(r"(\d) ", r"\1", link_label(link)).replace("/s", "ps"))
