"""Figures of what happens in rounds: acceptance, where the time goes, bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.curves import Curve
from aiflow_cli.analysis.figures_gamma import GAMMA_LABEL
from aiflow_cli.analysis.intervals import Interval, ratio_interval
from aiflow_cli.analysis.metrics import Metric, Record
from aiflow_cli.analysis.result import SPECULATIVE, Result, Series
from aiflow_cli.analysis.style import (
    BLACK,
    BLUE,
    GREEN,
    LIGHT,
    ORANGE,
    SKY,
    VERMILLION,
    Table,
    draw_points,
    error_bars,
    looks,
    new_figure,
    place_legend,
    span,
)
from aiflow_cli.analysis.summary import BASELINE
from aiflow_cli.analysis.theory import expected_tokens

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST_JUDGED = 20
"""Positions judged less often than this are not shown: their share says nothing."""


@dataclass(frozen=True)
class Acceptance:
    """Acceptance of one pair: by draft position over all its rounds, and tokens per round by draft length. `alpha`: fitted."""

    pair: str
    positions: tuple[tuple[int, int, Interval], ...]
    """Position, how often it was judged, share accepted."""
    rounds: tuple[tuple[int, Interval], ...]
    """Draft length, tokens per round."""
    alpha: float


def acceptance_of(result: Result, curve: Curve) -> Acceptance:
    """The acceptance of a curve's pair and link."""
    records = [r for gamma in curve.gammas for r in result.trials(curve.series, SPECULATIVE, gamma)]
    positions = []
    for position in range(1, curve.gammas[-1] + 1):
        sums = metrics.by_image(records, metrics.acceptance_at(position))
        judged = round(sum(part.under for part in sums.values()))
        interval = ratio_interval(sums)
        if interval is not None and judged >= FEWEST_JUDGED:
            positions.append((position, judged, interval))
    rounds = tuple((point.gamma, point.tokens_per_round) for point in curve.points)
    return Acceptance(curve.series.pair, tuple(positions), rounds, curve.fit.model.alpha)


def acceptance(found: Sequence[Acceptance]) -> Figure:
    """Conditional acceptance by draft position, and mean tokens per round by draft length with E(gamma) of the fitted alpha."""
    figure = new_figure(3.6)
    top, bottom = figure.subplots(2, 1)
    styles = looks([one.pair for one in found])
    for one in found:
        look = styles[one.pair]
        draw_points(
            top, [p for p, _, _ in one.positions], [share for _, _, share in one.positions], look, one.pair, "dots"
        )
        top.axhline(
            one.alpha,
            color=look.color,
            linestyle=look.line,
            linewidth=0.8,
            zorder=2,
            label=f"fitted α = {one.alpha:.2f}",
        )
        draw_points(bottom, [g for g, _ in one.rounds], [tokens for _, tokens in one.rounds], look, one.pair, "dots")
        x = [1 + step * (one.rounds[-1][0] - 1) / 100 for step in range(101)]
        bottom.plot(
            x,
            [expected_tokens(one.alpha, g) for g in x],
            color=look.color,
            linestyle=look.line,
            linewidth=0.8,
            zorder=2,
        )
    for axes in (top, bottom):
        axes.xaxis.get_major_locator().set_params(integer=True)
    lowest, _ = span(share for one in found for _, _, share in one.positions) or (0.0, 1.0)
    top.set_ylim(max(0.0, min(0.5, lowest - 0.05)), 1.01)
    top.set_ylabel("accepted, given that all\nbefore were accepted")
    top.set_xlabel("position in the draft")
    bottom.set_ylim(bottom=0)
    bottom.set_ylabel("tokens per round")
    bottom.set_xlabel(GAMMA_LABEL)
    place_legend(figure, top, max(1, len(found)))
    return figure


def acceptance_table(found: Sequence[Acceptance]) -> Table:
    """The data of `acceptance`."""
    columns = ("pair", "quantity", "position_or_gamma", "judged", "value", "low", "high", "closed_form")
    rows: list[tuple[object, ...]] = []
    for one in found:
        rows += [
            (one.pair, "conditional acceptance", p, judged, *share, one.alpha) for p, judged, share in one.positions
        ]
        rows += [
            (one.pair, "tokens per round", g, None, *tokens, expected_tokens(one.alpha, g)) for g, tokens in one.rounds
        ]
    return Table(columns, rows)


@dataclass(frozen=True)
class RoundTime:
    """Mean milliseconds of each part of a round at each draft length, for one series; `wall` with its interval."""

    label: str
    gammas: tuple[int, ...]
    parts: Mapping[str, tuple[float, ...]]
    wall: tuple[Interval, ...]


_PARTS = {
    "draft": (("draft_s",), BLUE, ""),
    "device software": (("encode_s", "apply_s"), SKY, "////"),
    "uplink": (("uplink_s",), VERMILLION, ""),
    "server queue": (("queue_s",), LIGHT, "xxxx"),
    "verify": (("verify_s",), ORANGE, ""),
    "downlink": (("downlink_s",), GREEN, "...."),
}
"""What is stacked, from below; the two large parts differ in lightness, so that they do in grey."""


def round_time_of(result: Result, series: Series) -> RoundTime:
    """Where the time of the rounds of one pair and link goes."""
    gammas = tuple(result.gammas(series))
    groups = [result.trials(series, SPECULATIVE, gamma) for gamma in gammas]
    parts = {
        name: tuple(
            1e3 * sum(metrics.ratio_of_sums(records, metrics.per_round(f)) or 0.0 for f in fields) for records in groups
        )
        for name, (fields, _, _) in _PARTS.items()
    }
    wall = tuple(_in_ms(records, metrics.per_round("wall_s")) for records in groups)
    return RoundTime(result.label(series), gammas, parts, wall)


def _in_ms(records: Sequence[Record], metric: Metric) -> Interval:
    interval = ratio_interval(metrics.by_image(records, metric))
    return Interval(math.nan) if interval is None else interval.times(1e3)


def round_time(found: Sequence[RoundTime]) -> Figure:
    """Where a round's time goes, stacked by part, at each draft length; the bar is the interval of the whole round."""
    figure = new_figure(0.7 + (1.6 if len(found) < 3 else 1.2) * len(found))
    panels = figure.subplots(len(found), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, one in zip(panels, found, strict=True):
        _stack(axes, one)
        if len(found) > 1:
            axes.set_title(one.label)
        axes.set_ylabel("ms per round")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    panels[-1].set_xlabel(GAMMA_LABEL)
    place_legend(figure, panels[0], 3, backwards=True)
    return figure


def _stack(axes: Axes, one: RoundTime) -> None:
    bottom = [0.0] * len(one.gammas)
    for name, (_, color, hatch) in _PARTS.items():
        heights = one.parts[name]
        axes.bar(
            one.gammas,
            heights,
            0.75,
            bottom,
            color=color,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.3,
            label=name,
            zorder=2,
        )
        bottom = [below + height for below, height in zip(bottom, heights, strict=True)]
    values = [wall.value for wall in one.wall]
    bars = list(zip(*map(error_bars, one.wall), strict=True))
    axes.errorbar(
        one.gammas, values, yerr=bars, fmt="none", ecolor=BLACK, elinewidth=0.7, capsize=1.4, capthick=0.7, zorder=3
    )


def round_time_table(found: Sequence[RoundTime]) -> Table:
    """The data of `round_time`."""
    names = tuple(_PARTS)
    columns = (
        "series",
        "gamma",
        *(f"{name.replace(' ', '_')}_ms" for name in names),
        "wall_ms",
        "wall_ms_low",
        "wall_ms_high",
    )
    rows: list[tuple[object, ...]] = [
        (one.label, gamma, *(one.parts[name][place] for name in names), *one.wall[place])
        for one in found
        for place, gamma in enumerate(one.gammas)
    ]
    return Table(columns, rows)


@dataclass(frozen=True)
class Bytes:
    """Bytes per token of one series at each draft length (None: server-only): up with the image, up without it, down."""

    pair: str
    label: str
    gamma: int | None
    up: Interval
    up_rounds: Interval
    down: Interval


def bytes_of(result: Result, series: Series) -> list[Bytes]:
    """Bytes per token of server-only and of every draft length of one pair and link."""
    groups: list[tuple[int | None, list[Record]]] = [(None, result.trials(series, BASELINE))]
    groups += [(gamma, result.trials(series, SPECULATIVE, gamma)) for gamma in result.gammas(series)]
    return [_bytes(series.pair, result.label(series), gamma, records) for gamma, records in groups if records]


def _bytes(pair: str, label: str, gamma: int | None, records: Sequence[Record]) -> Bytes:
    wanted = (metrics.bytes_up_per_token, metrics.round_bytes_up_per_token, metrics.bytes_down_per_token)
    up, rounds, down = (ratio_interval(metrics.by_image(records, metric)) for metric in wanted)
    assert up is not None  # a trial has at least one token
    assert rounds is not None
    assert down is not None
    return Bytes(pair, label, gamma, up, rounds, down)


def bytes_per_token(found: Sequence[Sequence[Bytes]]) -> Figure:
    """Bytes per token against draft length: above, all that goes up, the image included; below, drafts up and verdicts down alone."""
    figure = new_figure(3.6)
    top, bottom = figure.subplots(2, 1, sharex=True)
    styles = looks([one[0].pair for one in found])
    base = next((b for b in found[0] if b.gamma is None), None)
    if base is not None:
        top.axhline(base.up.value, color=BLACK, linestyle="--", linewidth=1.0, label="server-only")
        bottom.axhline(base.down.value, color=BLACK, linestyle="--", linewidth=1.0, label="server-only, down")
    for one in found:
        points = [b for b in one if b.gamma is not None]
        look, gammas = styles[one[0].pair], [b.gamma or 0 for b in points]
        draw_points(top, gammas, [b.up for b in points], look, one[0].label)
        draw_points(bottom, gammas, [b.up_rounds for b in points], look, f"{one[0].label}, up")
        draw_points(bottom, gammas, [b.down for b in points], look, f"{one[0].label}, down", "open")
    top.set_ylabel("bytes up per token,\nimage included")
    bottom.set_ylabel("bytes per token,\nimage left out")
    bottom.set_xlabel(GAMMA_LABEL)
    top.set_ylim(bottom=0)
    bottom.set_ylim(bottom=0)
    bottom.xaxis.get_major_locator().set_params(integer=True)
    place_legend(figure, bottom, 2)
    return figure


def bytes_table(found: Sequence[Sequence[Bytes]]) -> Table:
    """The data of `bytes_per_token`."""
    names = ("bytes_up", "bytes_up_without_image", "bytes_down")
    columns = ("series", "gamma", *(f"{n}_per_token{end}" for n in names for end in ("", "_low", "_high")))
    return Table(columns, [(b.label, b.gamma, *b.up, *b.up_rounds, *b.down) for one in found for b in one])
