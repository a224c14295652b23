"""Figures of what happens in rounds: acceptance, where the time goes, bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.arms import Arm
from aiflow_cli.analysis.curves import Curve
from aiflow_cli.analysis.figures import style
from aiflow_cli.analysis.figures.gamma import GAMMA_LABEL
from aiflow_cli.analysis.figures.style import Drawing
from aiflow_cli.analysis.intervals import Interval, known
from aiflow_cli.analysis.result import link_label
from aiflow_cli.analysis.study import Study
from aiflow_cli.analysis.theory import expected_tokens
from aiflow_cli.decoding.methods import Method

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST_JUDGED = 20
"""Positions judged less often than this are not shown: their share says nothing."""


class Position(NamedTuple):
    """A draft position of a pair: how often it was judged, and the share that was accepted."""

    position: int
    judged: int
    share: Interval


def positions_of(study: Study, curve: Curve) -> list[Position]:
    """The positions of a curve's pair and link, over the rounds of all draft lengths."""
    arms = [study.result.arm(curve.series, Method.SPECULATIVE, gamma) for gamma in curve.gammas]
    everything, found = Arm(trial for arm in arms for trial in arm.trials), []
    for position in range(1, curve.gammas[-1] + 1):
        metric = metrics.acceptance_at(position)
        judged = round(sum(part.under for part in everything.sums(metric).values()))
        if judged >= FEWEST_JUDGED:
            found.append(Position(position, judged, known(everything.interval(metric))))
    return found


def acceptance(study: Study) -> Drawing:
    """Conditional acceptance by draft position, and tokens per round by draft length with the fitted E(gamma)."""
    curves = {curve.series.pair: curve for curve in study.over(study.reference_link)}
    positions = {pair: positions_of(study, curve) for pair, curve in curves.items()}
    rows: list[dict[str, object]] = []
    for pair, curve in curves.items():
        alpha, share, tokens = curve.fit.model.alpha, "conditional acceptance", "tokens per round"
        told: list[tuple[object, ...]] = [(share, k, judged, value, alpha) for k, judged, value in positions[pair]]
        points = curve.points
        told += [(tokens, p.gamma, None, p.tokens_per_round, expected_tokens(alpha, p.gamma)) for p in points]
        names = ("quantity", "position_or_gamma", "judged", "value", "closed_form")
        rows += [{"pair": pair} | dict(zip(names, one, strict=True)) for one in told]
    return Drawing(
        name="acceptance",
        title="Acceptance by draft position, and tokens per round",
        caption=(
            "Above: the share of drafts accepted at a position among those whose earlier ones were all accepted, over "
            f"the rounds of all draft lengths (positions judged at least {FEWEST_JUDGED} times); the line is the "
            "fitted alpha. Below: tokens per round, the target's own included, and E(γ) of that alpha (Leviathan et "
            f"al., eq. 1), over {link_label(study.reference_link)}. {study.about_bars}"
        ),
        alt="; ".join(f"{pair}: fitted alpha {curve.fit.model.alpha:.2f}" for pair, curve in curves.items()),
        figure=_draw_acceptance(curves, positions),
        table=style.table(rows),
    )


def _draw_acceptance(curves: dict[str, Curve], positions: dict[str, list[Position]]) -> Figure:
    figure = style.new_figure(3.6)
    top, bottom = figure.subplots(2, 1)
    styles = style.looks(list(curves))
    for pair, curve in curves.items():
        look, alpha, points = styles[pair], curve.fit.model.alpha, positions[pair]
        line = {"color": look.color, "linestyle": look.line, "linewidth": 0.8, "zorder": 2}
        style.draw_points(top, [p.position for p in points], [p.share for p in points], look, pair, "dots")
        top.axhline(alpha, label=f"fitted α = {alpha:.2f}", **line)
        style.draw_points(bottom, curve.gammas, [p.tokens_per_round for p in curve.points], look, pair, "dots")
        x = np.linspace(1, curve.gammas[-1], 101)
        bottom.plot(x, [expected_tokens(alpha, g) for g in x], **line)
    for axes in (top, bottom):
        axes.xaxis.get_major_locator().set_params(integer=True)
    lowest, _ = style.span(p.share for found in positions.values() for p in found) or (0.0, 1.0)
    top.set_ylim(max(0.0, min(0.5, lowest - 0.05)), 1.01)
    top.set_ylabel("accepted, given that all\nbefore were accepted")
    top.set_xlabel("position in the draft")
    bottom.set_ylim(bottom=0)
    bottom.set_ylabel("tokens per round")
    bottom.set_xlabel(GAMMA_LABEL)
    style.place_legend(figure, top, max(1, len(curves)))
    return figure


_PARTS = {
    "draft": (("draft",), style.BLUE, ""),
    "device software": (("encode", "apply"), style.SKY, "////"),
    "uplink": (("uplink",), style.VERMILLION, ""),
    "server queue": (("queue",), style.LIGHT, "xxxx"),
    "verify": (("verify",), style.ORANGE, ""),
    "downlink": (("downlink",), style.GREEN, "...."),
}
"""What is stacked, from below; the two large parts differ in lightness, so that they do in grey."""


class RoundTime(NamedTuple):
    """Mean milliseconds of each part of a round at one draft length, and of all of it."""

    gamma: int
    parts: dict[str, float]
    wall: Interval


def round_times(study: Study, curve: Curve) -> list[RoundTime]:
    """Where the time of the rounds of one pair and link goes."""
    found = []
    for gamma in curve.gammas:
        arm = study.result.arm(curve.series, Method.SPECULATIVE, gamma)
        ms = {part: 1e3 * (arm.value(metrics.per_round(part)) or 0.0) for part in metrics.ROUND_PARTS}
        parts = {name: sum(ms[part] for part in of) for name, (of, _, _) in _PARTS.items()}
        found.append(RoundTime(gamma, parts, known(arm.ms(metrics.round_wall))))
    return found


def round_time(study: Study, curves: Sequence[Curve]) -> Drawing:
    """Where a round's time goes, stacked by part, at each draft length; the bar is the interval of the whole round."""
    found = {curve.label: round_times(study, curve) for curve in curves}
    return Drawing(
        name="round-time",
        title="Where the time of a round goes",
        caption=(
            "Mean time of a round by part. Draft and device software (framing, applying the verdict) are the device's "
            "clock; queue and verify are durations that the server reports; what is left is the network. Its parts up "
            "and down are modelled, not measured: each way takes what an idle link takes, and half of the rest. "
            f"{study.about_bars}"
        ),
        alt="; ".join(
            f"{label}: {times[0].wall.value:.1f} to {times[-1].wall.value:.1f} ms per round"
            for label, times in found.items()
        ),
        figure=_draw_round_time(found),
        table=style.table(
            {
                "series": label,
                "gamma": one.gamma,
                **{_column(name): ms for name, ms in one.parts.items()},
                "wall_ms": one.wall,
            }
            for label, times in found.items()
            for one in times
        ),
    )


def _column(part: str) -> str:
    modelled = "_modelled" if part in ("uplink", "downlink") else ""
    return f"{part.replace(' ', '_')}{modelled}_ms"


def _draw_round_time(found: dict[str, list[RoundTime]]) -> Figure:
    figure = style.new_figure(0.7 + (1.6 if len(found) < 3 else 1.2) * len(found))
    panels = figure.subplots(len(found), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (label, times) in zip(panels, found.items(), strict=True):
        _stack(axes, times)
        if len(found) > 1:
            axes.set_title(label)
        axes.set_ylabel("ms per round")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    panels[-1].set_xlabel(GAMMA_LABEL)
    style.place_legend(figure, panels[0], 3, backwards=True)
    return figure


def _stack(axes: Axes, times: Sequence[RoundTime]) -> None:
    gammas, bottom = [one.gamma for one in times], np.zeros(len(times))
    for name, (_, color, hatch) in _PARTS.items():
        ms = np.array([one.parts[name] for one in times])
        label = f"{name} (modelled)" if "modelled" in _column(name) else name
        look: dict[str, Any] = {"color": color, "hatch": hatch, "edgecolor": "white", "linewidth": 0.3}
        axes.bar(gammas, ms, 0.75, bottom, label=label, zorder=2, **look)
        bottom = bottom + ms
    style.draw_bars(axes, gammas, [one.wall for one in times], fmt="none", ecolor=style.BLACK)


class Bytes(NamedTuple):
    """Bytes per token at one draft length (None: server-only): up with the image, up without it, down."""

    gamma: int | None
    up: Interval
    up_rounds: Interval
    down: Interval


def bytes_of(study: Study, curve: Curve) -> list[Bytes]:
    """Bytes per token of server-only and of every draft length of one pair and link."""
    arms: dict[int | None, Arm] = {None: study.result.baseline(curve.series)}
    arms |= {gamma: study.result.arm(curve.series, Method.SPECULATIVE, gamma) for gamma in curve.gammas}
    wanted = (metrics.bytes_up_per_token, metrics.round_bytes_up_per_token, metrics.bytes_down_per_token)
    return [Bytes(gamma, *(known(arm.interval(metric)) for metric in wanted)) for gamma, arm in arms.items()]


def bytes_per_token(study: Study) -> Drawing:
    """Bytes per token against draft length: above, all that goes up; below, drafts up and verdicts down alone."""
    found = {curve: bytes_of(study, curve) for curve in study.over(study.reference_link)}
    names = ("gamma", "bytes_up_per_token", "bytes_up_without_image_per_token", "bytes_down_per_token")
    rows = [(c.label, b) for c, several in found.items() for b in several]
    return Drawing(
        name="bytes",
        title="Bytes on the link per token",
        caption=(
            "Bytes of the application on the wire, framing included, over output tokens, over "
            f"{link_label(study.reference_link)}. Above: all that goes up, with the image. Below: drafts up and "
            f"verdicts down, without the request that carries the image. {study.about_bars}"
        ),
        alt="; ".join(
            f"{curve.label}: {several[-1].up_rounds.value:.1f} B up, {several[-1].down.value:.1f} B down"
            for curve, several in found.items()
        ),
        figure=_draw_bytes(list(found.items())),
        table=style.table({"series": label} | dict(zip(names, one, strict=True)) for label, one in rows),
    )


def _draw_bytes(found: Sequence[tuple[Curve, list[Bytes]]]) -> Figure:
    figure = style.new_figure(3.6)
    top, bottom = figure.subplots(2, 1, sharex=True)
    styles = style.looks([curve.series.pair for curve, _ in found])
    base = found[0][1][0]
    for axes, level, label in ((top, base.up, "server-only"), (bottom, base.down, "server-only, down")):
        axes.axhline(level.value, color=style.BLACK, linestyle="--", linewidth=1.0, label=label)
    for curve, (_, *points) in found:
        look, gammas, label = styles[curve.series.pair], curve.gammas, curve.label
        style.draw_points(top, gammas, [b.up for b in points], look, label)
        style.draw_points(bottom, gammas, [b.up_rounds for b in points], look, f"{label}, up")
        style.draw_points(bottom, gammas, [b.down for b in points], look, f"{label}, down", "open")
    for axes, label in ((top, "bytes up per token,\nimage included"), (bottom, "bytes per token,\nimage left out")):
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    bottom.set_xlabel(GAMMA_LABEL)
    bottom.xaxis.get_major_locator().set_params(integer=True)
    style.place_legend(figure, bottom, 2)
    return figure
