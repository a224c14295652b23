"""One line a method and draft length: what `aiflow run` prints and a report tabulates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.intervals import Interval, ratio_interval, speedup_interval, too_few
from aiflow_cli.analysis.metrics import Metric, Record
from aiflow_cli.link.spec import LinkSpec

BASELINE = "server-only"


@dataclass(frozen=True)
class MethodSummary:
    """All trials of one method and draft length. Times in milliseconds, ratios of sums over the trials; None where not defined.

    `identical` counts the trials whose output equals server-only's; None for on-device, which has another output by design.
    `speedup` is of decode TPOT, `speedup_latency` of latency per token, both against server-only on the same images.
    """

    method: str
    gamma: int | None
    images: int
    trials: int
    tokens: int
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

    def as_json(self) -> dict[str, Any]:
        """The form of `aiflow run --json`: plain numbers, intervals as [low, high] beside them, or null and why there are none."""
        return {
            "method": self.method,
            "gamma": self.gamma,
            "images": self.images,
            "no_intervals": self.too_few,
            "trials": self.trials,
            "tokens": self.tokens,
            "identical": self.identical,
            "ttft_ms": self.ttft_ms,
            "latency_per_token_ms": self.latency_per_token_ms.value,
            "latency_per_token_ci": self.latency_per_token_ms.ends,
            "tpot_ms": self.tpot_ms,
            "decode_tpot_ms": _value(self.decode_tpot_ms),
            "decode_tpot_ci": _ends(self.decode_tpot_ms),
            "tokens_per_round": self.tokens_per_round,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "bytes_up_per_token": self.bytes_up / self.tokens,
            "bytes_down_per_token": self.bytes_down / self.tokens,
            "speedup": _value(self.speedup),
            "speedup_ci": _ends(self.speedup),
            "speedup_latency": _value(self.speedup_latency),
            "speedup_latency_ci": _ends(self.speedup_latency),
        }


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


def _value(interval: Interval | None) -> float | None:
    return None if interval is None else interval.value


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else interval.ends


def summarise_groups(records: Iterable[Record]) -> list[Group]:
    """`summarise` by pair and link, in the order of slowest uplink first."""
    groups: dict[tuple[str, LinkSpec], list[Record]] = {}
    for record in records:
        groups.setdefault((record["pair"], link_of(record)), []).append(record)
    order = sorted(groups, key=lambda key: (key[0], astuple(key[1])))
    return [Group(pair, link, summarise(groups[pair, link])) for pair, link in order]


def link_of(record: Record) -> LinkSpec:
    """The link of a trial: a rate of null is unlimited."""
    values: dict[str, Any] = {name: math.inf if value is None else value for name, value in record["link"].items()}
    return LinkSpec(**values)


def summarise(records: Iterable[Record]) -> list[MethodSummary]:
    """A summary of each method and draft length among `records` (warm-ups left out), server-only first, then by name and gamma."""
    groups: dict[tuple[str, int | None], list[Record]] = {}
    for record in records:
        if not record.get("warmup"):
            groups.setdefault((record["method"], record["gamma"]), []).append(record)
    baseline = groups.get((BASELINE, None), [])
    order = sorted(groups, key=lambda key: (key[0] != BASELINE, key[0], key[1] or 0))
    return [_summary(method, gamma, groups[method, gamma], baseline) for method, gamma in order]


def _summary(method: str, gamma: int | None, records: Sequence[Record], baseline: Sequence[Record]) -> MethodSummary:
    compared = [r["identical"] for r in records if r["identical"] is not None]
    latency = ratio_interval(metrics.by_image(records, metrics.latency_per_token))
    assert latency is not None  # a trial has at least one token
    return MethodSummary(
        method=method,
        gamma=gamma,
        images=len({metrics.unit(r) for r in records}),
        trials=len(records),
        tokens=sum(r["n_tokens"] for r in records),
        identical=sum(compared) if compared else None,
        ttft_ms=1e3 * (metrics.ratio_of_sums(records, metrics.ttft) or 0.0),
        latency_per_token_ms=latency.times(1e3),
        tpot_ms=_times_1000(metrics.ratio_of_sums(records, metrics.tpot)),
        decode_tpot_ms=_maybe_ms(ratio_interval(metrics.by_image(records, metrics.decode_tpot))),
        tokens_per_round=metrics.ratio_of_sums(records, metrics.tokens_per_round),
        bytes_up=sum(r["bytes_up"] for r in records),
        bytes_down=sum(r["bytes_down"] for r in records),
        speedup=_speedup(baseline, records, metrics.decode_tpot),
        speedup_latency=_speedup(baseline, records, metrics.latency_per_token),
    )


def _maybe_ms(interval: Interval | None) -> Interval | None:
    return None if interval is None else interval.times(1e3)


def _times_1000(value: float | None) -> float | None:
    return None if value is None else 1e3 * value


def _speedup(baseline: Sequence[Record], records: Sequence[Record], metric: Metric) -> Interval | None:
    return speedup_interval(metrics.by_image(baseline, metric), metrics.by_image(records, metric))
