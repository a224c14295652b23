"""Which figures a result has, with their titles and captions; drawing them all into files."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from aiflow_cli.analysis import figures_gamma, figures_links, figures_rounds, figures_waterfall
from aiflow_cli.analysis.curves import Curve
from aiflow_cli.analysis.metrics import FORMULAS
from aiflow_cli.analysis.result import Result, link_label
from aiflow_cli.analysis.study import Study
from aiflow_cli.analysis.style import Drawing, styled, write_drawing
from aiflow_cli.analysis.timeline import chrome_trace
from aiflow_cli.errors import AiflowError, StoreError, UsageError
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.trials.store import make_folder, owned, replace_file

FIGURES = ("figure6", "speedup", "acceptance", "round-time", "waterfall", "bytes", "link")
_MOST_PANELS = 4


@dataclass(frozen=True)
class Plotted:
    """What was written: each drawing with its files, and what could not be drawn and why."""

    folder: Path
    drawings: list[tuple[Drawing, list[Path]]]
    skipped: list[tuple[str, str]]
    trace: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [path for _, paths in self.drawings for path in paths] + ([self.trace] if self.trace else [])


class Planned(NamedTuple):
    """A figure to be drawn."""

    name: str
    draw: Callable[[], Drawing]


def check_names(names: Collection[str]) -> None:
    """Raise UsageError for a figure that there is not."""
    for name in names:
        if name not in FIGURES:
            raise UsageError(f"no figure {name!r}: give one of {', '.join(FIGURES)}")


def plan(study: Study, only: Collection[str] = ()) -> tuple[list[Planned], list[tuple[str, str]]]:
    """The figures that a result has, and those (name, reason) that it cannot have. A figure asked for in `only` raises instead."""
    check_names(only)
    planned: list[Planned] = []
    skipped: list[tuple[str, str]] = []
    for name in FIGURES:
        if only and name not in only:
            continue
        try:
            planned += _PLANS[name](study)
        except AiflowError as error:
            if only:
                raise
            if name == "link":
                continue  # nearly every result has one link: no news
            skipped.append((name, str(error)))
    if not planned:
        raise StoreError(f"{study.result.folder} has nothing to draw: {skipped[0][1]}")
    return planned, skipped


def plot(
    result: Result,
    folder: Path | None = None,
    only: Collection[str] = (),
    trace: bool = False,
    image_id: str | None = None,
    show: Callable[[int, int], None] = lambda done, total: None,
) -> Plotted:
    """Draw the figures of a result into `folder` (its own `figures/`), with a Chrome trace of one image's responses if asked for.

    `show` gets the number of figures done and to be done. Raises UsageError, StoreError.
    """
    study = Study(result)
    planned, skipped = plan(study, only)
    target = make_folder(folder or result.folder / "figures")
    written: list[tuple[Drawing, list[Path]]] = []
    with owned(target):
        for done, one in enumerate(planned):
            show(done, len(planned))
            with styled():
                drawing = one.draw()
                written.append((drawing, write_drawing(drawing, target, result.run_id, result.commit)))
        show(len(planned), len(planned))
        return Plotted(target, written, skipped, write_trace(study, target, image_id) if trace else None)


def places(folders: Sequence[Path], output: Path | None) -> dict[Path, Path | None]:
    """Where the figures of each result go: of one into `output`, of several into a folder of each result's name in it.

    A result that is named twice counts once. Raises UsageError for two of one name, whose figures would lie in one place.
    """
    results = {folder.resolve(): folder for folder in folders}
    if output is None or len(results) == 1:
        return dict.fromkeys(results.values(), output)
    found: dict[str, Path] = {}
    for whole, folder in results.items():
        if (other := found.setdefault(whole.name, folder)) != folder:
            raise UsageError(f"{other} and {folder} would both go into {output / whole.name}: plot them one at a time")
    return {folder: output / name for name, folder in found.items()}


def write_trace(study: Study, folder: Path, image_id: str | None) -> Path:
    """Write `trace.json`: all responses to one image, for ui.perfetto.dev. Raises UsageError, StoreError."""
    path = folder / "trace.json"
    replace_file(
        path, chrome_trace(study.responses(image_id), f"result {study.result.run_id}, commit {study.result.commit}")
    )
    return path


def _several_gammas(study: Study) -> None:
    for curve in study.curves:
        if len(curve.gammas) < 2:
            raise UsageError(
                f"{study.result.folder} has only one draft length ({curve.gammas[0]}): a curve needs more, `aiflow sweep quick` measures them"
            )


def slug(link: LinkSpec) -> str:
    """A link as part of a file's name: `500KBps`, `1MBps-5ms`."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", re.sub(r"(\d) ", r"\1", link_label(link)).replace("/s", "ps"))


def _named(study: Study, name: str, link: LinkSpec) -> str:
    return name if len(study.links) == 1 else f"{name}-{slug(link)}"


def _intervals(curve: Curve) -> str:
    """What is said below a figure about its bars; figures over several curves rest on the same images."""
    if curve.too_few:
        return f"There are no bars and bands ({curve.too_few})."
    return "Bars and bands are 95 % bootstrap intervals over images, paired."


def _over(link: LinkSpec) -> str:
    return f"over {link_label(link)}"


def _figure6(study: Study) -> Iterator[Planned]:
    _several_gammas(study)
    for link in study.links:
        yield Planned(_named(study, "figure6", link), lambda link=link: _draw_figure6(study, link))  # type: ignore[misc]


def _draw_figure6(study: Study, link: LinkSpec) -> Drawing:
    curves = study.over(link)
    return Drawing(
        name=_named(study, "figure6", link),
        title=f"Decode TPOT and latency per token against draft length, {_over(link)}",
        caption=(
            f"Time per token of device-edge speculation against draft length, {_over(link)}, {curves[0].images} images "
            f"({study.result.data_name}). Decode TPOT = {FORMULAS['decode TPOT']}; latency per token = {FORMULAS['latency per token']}. "
            "Dashed: server-only. Ring: the lowest point. Cross: where the curve meets server-only for good, by a straight line between "
            f"neighbours. {_intervals(curves[0])} What the paper states stands apart, below."
        ),
        alt="; ".join(
            f"{c.label}: {c.best.decode_tpot_ms.value:.2f} ms per token at draft length {c.best.gamma}, server-only "
            f"{c.baseline.decode_tpot_ms.value:.2f} ms"
            for c in curves
        ),
        figure=figures_gamma.figure6(curves),
        table=figures_gamma.figure6_table(curves),
    )


def _speedup(study: Study) -> Iterator[Planned]:
    _several_gammas(study)
    for link in study.links:
        yield Planned(_named(study, "speedup", link), lambda link=link: _draw_speedup(study, link))  # type: ignore[misc]


def _draw_speedup(study: Study, link: LinkSpec) -> Drawing:
    curves, co_located = study.over(link), study.over(link, study.co_located)
    on_device = [(c.series.pair, level) for c in curves if (level := study.on_device(c.series)) is not None]
    return Drawing(
        name=_named(study, "speedup", link),
        title=f"Speed-up over server-only against draft length, {_over(link)}",
        caption=(
            f"Speed-up over server-only, {_over(link)}: ratio of sums of decode TPOT over the same {curves[0].images} images. Lines: "
            "S(γ) = E(γ) / (F + (c + s) γ) with alpha, c, F and s fitted to the measured rounds, not to this curve; at long drafts it "
            "lies below, because the end of a caption cuts rounds short, and saves drafts, which it does not know. Hollow: co-located "
            f"speculation. On-device is the draft alone, with another output. {_intervals(curves[0])}"
        ),
        alt="; ".join(
            f"{c.label}: {c.best.speedup.value:.2f} times server-only at draft length {c.best.gamma}" for c in curves
        ),
        figure=figures_gamma.speedup(curves, co_located, on_device),
        table=figures_gamma.speedup_table(curves, co_located, on_device),
    )


def _acceptance(study: Study) -> Iterator[Planned]:
    link = study.reference_link
    found = [figures_rounds.acceptance_of(study.result, curve) for curve in study.over(link)]
    bars = _intervals(study.main)

    def draw() -> Drawing:
        return Drawing(
            name="acceptance",
            title="Acceptance by draft position, and tokens per round",
            caption=(
                "Above: the share of drafts accepted at a position among those whose earlier ones were all accepted, over the rounds of all "
                f"draft lengths (positions judged at least {figures_rounds.FEWEST_JUDGED} times); the line is the fitted alpha. Below: tokens "
                f"per round, the target's own included, and E(γ) of that alpha (Leviathan et al., eq. 1), {_over(link)}. {bars}"
            ),
            alt="; ".join(f"{one.pair}: fitted alpha {one.alpha:.2f}" for one in found),
            figure=figures_rounds.acceptance(found),
            table=figures_rounds.acceptance_table(found),
        )

    yield Planned("acceptance", draw)


def _round_time(study: Study) -> Iterator[Planned]:
    series = [curve.series for curve in study.curves]
    if len(series) > _MOST_PANELS:
        series = [curve.series for curve in study.over(study.reference_link)][:_MOST_PANELS]
    bars = _intervals(study.main)

    def draw() -> Drawing:
        found = [figures_rounds.round_time_of(study.result, one) for one in series]
        return Drawing(
            name="round-time",
            title="Where the time of a round goes",
            caption=(
                "Mean time of a round by part. Draft and device software (framing, applying the verdict) are the device's clock; queue and "
                "verify are durations that the server reports; what is left is the network, told apart into up and down by the link's "
                f"arithmetic. {bars}"
            ),
            alt="; ".join(
                f"{one.label}: {one.wall[0].value:.1f} to {one.wall[-1].value:.1f} ms per round" for one in found
            ),
            figure=figures_rounds.round_time(found),
            table=figures_rounds.round_time_table(found),
        )

    yield Planned("round-time", draw)


def _waterfall(study: Study) -> Iterator[Planned]:
    baseline, record = study.shown

    def draw() -> Drawing:
        return Drawing(
            name="waterfall",
            title="One response, part by part",
            caption=(
                f"The response of median latency per token ({record['trial']}, image {record['image_id']}, {study.main.label}, "
                f"{_over(study.main.series.link)}) beside server-only's for the same image. Triangles: deliveries. Very short parts are drawn "
                "a hair's breadth wide."
            ),
            alt=f"{record['n_tokens']} tokens in {1e3 * record['latency_s']:.0f} ms",
            figure=figures_waterfall.waterfall(baseline, record),
            table=figures_waterfall.waterfall_table([r for r in (baseline, record) if r is not None]),
        )

    yield Planned("waterfall", draw)


def _bytes(study: Study) -> Iterator[Planned]:
    link = study.reference_link
    found = [figures_rounds.bytes_of(study.result, curve.series) for curve in study.over(link)]
    bars = _intervals(study.main)

    def draw() -> Drawing:
        return Drawing(
            name="bytes",
            title="Bytes on the link per token",
            caption=(
                f"Bytes of the application on the wire, framing included, over output tokens, {_over(link)}. Above: all that goes up, with "
                f"the image. Below: drafts up and verdicts down, without the request that carries the image. {bars}"
            ),
            alt="; ".join(
                f"{one[-1].label}: {one[-1].up_rounds.value:.1f} B up, {one[-1].down.value:.1f} B down" for one in found
            ),
            figure=figures_rounds.bytes_per_token(found),
            table=figures_rounds.bytes_table(found),
        )

    yield Planned("bytes", draw)


def _link(study: Study) -> Iterator[Planned]:
    axis = figures_links.axis_of(study.links)
    if axis is None:
        raise UsageError(f"{study.result.folder} has one link: `aiflow sweep rates` or `delay` measures several")
    _several_gammas(study)
    points = figures_links.link_points([*study.curves, *study.co_located], axis)
    bars = _intervals(study.main)

    def draw() -> Drawing:
        return Drawing(
            name=f"best-{axis.name}",
            title=f"Best draft length and speed-up against {axis.name}",
            caption=(
                f"Above: the draft length of the lowest decode TPOT among those measured, against the {axis.label.split(' (', maxsplit=1)[0]}. "
                f"Below: the speed-up over server-only there, and of co-located speculation at its own best draft length. {bars}"
            ),
            alt="; ".join(
                f"{p.pair}, {p.method}, {p.x:g}: {p.speedup.value:.2f} at {p.optimum.value:.0f}" for p in points
            ),
            figure=figures_links.over_link(points, axis),
            table=figures_links.over_link_table(points, axis),
        )

    yield Planned(f"best-{axis.name}", draw)


_PLANS: dict[str, Callable[[Study], Iterator[Planned]]] = {
    "figure6": _figure6,
    "speedup": _speedup,
    "acceptance": _acceptance,
    "round-time": _round_time,
    "waterfall": _waterfall,
    "bytes": _bytes,
    "link": _link,
}
