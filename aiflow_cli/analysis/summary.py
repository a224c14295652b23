"""One line a method and draft length: what `aiflow run` prints and a report tabulates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from typing import Any

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.arms import Arm
from aiflow_cli.analysis.intervals import Interval, too_few
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
    decode_tpot_ms: Interval
    tokens_per_round: float | None
    bytes_up: int
    bytes_down: int
    speedup: Interval
    speedup_latency: Interval

    @classmethod
    def of(cls, arm: Arm, baseline: Arm) -> MethodSummary:
        """The summary of one setting's trials, of which there is one at least."""
        trials, setting = arm.trials, arm.trials[0].setting
        judged = repeats(trials) if setting.method is Method.SERVER_ONLY else trials
        compared = [trial.identical for trial in judged if trial.identical is not None]
        tpot_s = arm.value(metrics.tpot)
        return cls(
            method=setting.method.value,
            gamma=setting.gamma,
            images=arm.images,
            resampled=arm.resampled,
            trials=len(trials),
            tokens=sum(t.n_tokens for t in trials),
            compared=len(compared),
            identical=sum(compared) if compared else None,
            ttft_ms=1e3 * (arm.value(metrics.ttft) or 0.0),
            latency_per_token_ms=arm.ms(metrics.latency_per_token),
            tpot_ms=None if tpot_s is None else 1e3 * tpot_s,
            decode_tpot_ms=arm.ms(metrics.decode_tpot),
            tokens_per_round=arm.value(metrics.tokens_per_round),
            bytes_up=sum(t.bytes_up for t in trials),
            bytes_down=sum(t.bytes_down for t in trials),
            speedup=baseline.over(arm, metrics.decode_tpot),
            speedup_latency=baseline.over(arm, metrics.latency_per_token),
        )

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
            interval = isinstance(value, Interval)
            told |= value.as_json(name, f"{name.removesuffix('_ms')}_ci") if interval else {name: value}
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
    groups: dict[tuple[bool, str, int], list[Trial]] = {}
    for trial in (trial for trial in trials if not trial.warmup):
        method = trial.setting.method.value
        groups.setdefault((method != BASELINE, method, trial.setting.gamma or 0), []).append(trial)
    arms = {key: Arm(group) for key, group in sorted(groups.items())}
    baseline = arms.get((False, BASELINE, 0), Arm(()))
    return [MethodSummary.of(arm, baseline) for arm in arms.values()]
