"""One line a method and draft length: what `aiflow run` prints and a report tabulates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from typing import Any

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.arms import Arm
from aiflow_cli.analysis.intervals import Interval, ends_of, known, resampled, too_few, value_of
from aiflow_cli.analysis.metrics import Metric
from aiflow_cli.analysis.result import repeats
from aiflow_cli.decoding.methods import Method
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.world.record import Trial

BASELINE = Method.SERVER_ONLY.value


@dataclass(frozen=True)
class MethodSummary:
    """All trials of one method and draft length. Times in milliseconds, ratios of sums over the trials, or None.

    `compared` counts the trials that were compared with server-only's, and `identical` those that equal it. Of
    server-only the first trial of an image is the reference, and its repeats are compared. On-device is not: it has
    another output by design. `speedup` is of decode TPOT, `speedup_latency` of latency per token, both against
    server-only on the same images. `resampled` says what the intervals are over.
    """

    method: str
    gamma: int | None
    images: int
    resampled: str
    trials: int
    tokens: int
    compared: int
    identical: int | None
    ttft_ms: float
    latency_per_token_ms: Interval
    tpot_ms: float | None
    decode_tpot_ms: Interval | None
    tokens_per_round: float | None
    bytes_up: int
    bytes_down: int
    speedup: Interval | None
    speedup_latency: Interval | None

    @property
    def too_few(self) -> str | None:
        """Why nothing of it has an interval, or None."""
        return too_few(self.images)

    @property
    def identity(self) -> str:
        """`16/16` outputs that are server-only's, `reference` for itself (and its repeats), `-` where none is."""
        share = f"{self.identical}/{self.compared}" if self.compared else ""
        if self.method == BASELINE:
            return f"reference\n{share} repeats" if share else "reference"
        return share or "-"

    def as_json(self) -> dict[str, Any]:
        """The form of `--json`: plain numbers, intervals as [low, high] beside them, or null and why there are none."""
        told: dict[str, Any] = {}
        for name, value in vars(self).items():
            if name.startswith(("latency_per_token", "decode_tpot", "speedup")):
                told |= {name: value_of(value), f"{name.removesuffix('_ms')}_ci": ends_of(value)}
            else:
                told[name] = value
        per_token = {f"{name}_per_token": told[name] / self.tokens for name in ("bytes_up", "bytes_down")}
        return told | per_token | {"no_intervals": self.too_few}


@dataclass(frozen=True)
class Group:
    """The summaries of one pair over one link: what may be compared."""

    pair: str
    link: LinkSpec
    methods: list[MethodSummary]

    def as_json(self) -> dict[str, Any]:
        """The form of `aiflow sweep --json`: an unlimited rate is null."""
        link = {name: None if value == math.inf else value for name, value in asdict(self.link).items()}
        return {"pair": self.pair, "link": link, "methods": [method.as_json() for method in self.methods]}


def summarise_groups(trials: Iterable[Trial]) -> list[Group]:
    """`summarise` by pair and link, in the order of slowest uplink first."""
    groups: dict[tuple[str, LinkSpec], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.setting.pair, trial.setting.link.spec), []).append(trial)
    order = sorted(groups, key=lambda key: (key[0], astuple(key[1])))
    return [Group(pair, link, summarise(groups[pair, link])) for pair, link in order]


def summarise(trials: Iterable[Trial]) -> list[MethodSummary]:
    """A summary of each method and draft length (warm-ups left out), server-only first, then by name and gamma."""
    groups: dict[tuple[str, int | None], list[Trial]] = {}
    for trial in trials:
        if not trial.warmup:
            groups.setdefault((trial.setting.method.value, trial.setting.gamma), []).append(trial)
    arms = {key: Arm(group) for key, group in groups.items()}
    baseline = arms.get((BASELINE, None), Arm(()))
    order = sorted(arms, key=lambda key: (key[0] != BASELINE, key[0], key[1] or 0))
    return [_summary(method, gamma, arms[method, gamma], baseline) for method, gamma in order]


def _summary(method: str, gamma: int | None, arm: Arm, baseline: Arm) -> MethodSummary:
    trials = arm.trials
    compared = [t.identical for t in (repeats(trials) if method == BASELINE else trials) if t.identical is not None]
    return MethodSummary(
        method=method,
        gamma=gamma,
        images=arm.images,
        resampled=resampled(len({unit.session for unit in arm.units})),
        trials=len(trials),
        tokens=sum(t.n_tokens for t in trials),
        compared=len(compared),
        identical=sum(compared) if compared else None,
        ttft_ms=_ms(arm, metrics.ttft) or 0.0,
        latency_per_token_ms=known(arm.ms(metrics.latency_per_token)),
        tpot_ms=_ms(arm, metrics.tpot),
        decode_tpot_ms=arm.ms(metrics.decode_tpot),
        tokens_per_round=arm.value(metrics.tokens_per_round),
        bytes_up=sum(t.bytes_up for t in trials),
        bytes_down=sum(t.bytes_down for t in trials),
        speedup=baseline.over(arm, metrics.decode_tpot),
        speedup_latency=baseline.over(arm, metrics.latency_per_token),
    )


def _ms(arm: Arm, metric: Metric) -> float | None:
    value = arm.value(metric)
    return None if value is None else 1e3 * value
