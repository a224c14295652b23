"""Which figures a result has; drawing them all into files."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from aiflow_cli.analysis.figures import gamma, links, rounds
from aiflow_cli.analysis.figures.style import Drawing, styled, write_drawing
from aiflow_cli.analysis.figures.timeline import chrome_trace
from aiflow_cli.analysis.figures.waterfall import waterfall
from aiflow_cli.analysis.result import Result, link_label
from aiflow_cli.analysis.study import Study
from aiflow_cli.errors import AiflowError, StoreError, UsageError
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.trials.store import make_folder, owned, replace_file

_MOST_PANELS = 4
Show = Callable[[int, int], None]
"""Gets the number of steps done and to be done."""
Draw = Callable[[], Drawing]


class Plan(NamedTuple):
    """The figures that a result has, by name, and those (name, reason) that it cannot have."""

    figures: dict[str, Draw]
    skipped: list[tuple[str, str]]


@dataclass(frozen=True)
class Plotted:
    """What was written: each drawing with its files, and what could not be drawn and why."""

    drawings: list[tuple[Drawing, list[Path]]]
    skipped: list[tuple[str, str]]
    trace: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [path for _, paths in self.drawings for path in paths] + ([self.trace] if self.trace else [])


def _by_link(name: str, draw: Callable[[Study, str, LinkSpec], Drawing], study: Study) -> dict[str, Draw]:
    """A figure over the draft length for each link."""
    _several_gammas(study)
    names = {name if len(study.links) == 1 else f"{name}-{slug(link)}": link for link in study.links}
    return {named: partial(draw, study, named, link) for named, link in names.items()}


def _several_gammas(study: Study) -> None:
    for curve in study.curves:
        if len(curve.gammas) < 2:
            raise UsageError(
                f"{study.result.folder} has only one draft length ({curve.gammas[0]}): a curve needs more, "
                "`aiflow sweep quick` measures them"
            )


def _round_time(study: Study) -> dict[str, Draw]:
    few = len(study.curves) <= _MOST_PANELS
    curves = study.curves if few else study.over(study.reference_link)[:_MOST_PANELS]
    return {"round-time": partial(rounds.round_time, study, curves)}


def _link(study: Study) -> dict[str, Draw]:
    axis = links.axis_of(study.links)
    if axis is None:
        raise UsageError(f"{study.result.folder} has one link: `aiflow sweep rates` or `delay` measures several")
    _several_gammas(study)
    return {f"best-{axis.name}": partial(links.best_over_link, study, axis)}


FIGURES: dict[str, Callable[[Study], dict[str, Draw]]] = {
    "figure6": partial(_by_link, "figure6", gamma.figure6),
    "speedup": partial(_by_link, "speedup", gamma.speedup),
    "acceptance": lambda study: {"acceptance": partial(rounds.acceptance, study)},
    "round-time": _round_time,
    "waterfall": lambda study: {"waterfall": partial(waterfall, study, *study.shown)},
    "bytes": lambda study: {"bytes": partial(rounds.bytes_per_token, study)},
    "link": _link,
}
"""The figures by name, in their order."""


def check_names(names: Collection[str]) -> None:
    """Raise UsageError for a figure that there is not."""
    for name in names:
        if name not in FIGURES:
            raise UsageError(f"no figure {name!r}: give one of {', '.join(FIGURES)}")


def plan(study: Study, only: Collection[str] = ()) -> Plan:
    """The figures of a result. One that is asked for in `only` and cannot be drawn raises instead."""
    check_names(only)
    found = Plan({}, [])
    for name in only or FIGURES:
        try:
            assert study.main  # raises where there is no curve
            found.figures.update(FIGURES[name](study))
        except AiflowError as error:
            if only:
                raise
            if name != "link":  # nearly every result has one link: no news
                found.skipped.append((name, str(error)))
    if not found.figures:
        raise StoreError(f"{study.result.folder} has nothing to draw: {found.skipped[0][1]}")
    return found


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
