"""The figures of `aiflow bench` beside their bounds. Every figure is a ratio of sums over images, with a paired bootstrap interval.

decode TPOT = (t_N - t_1) / (N - n1): the tokens of the first delivery took no time after it, whoever delivers them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiflow_cli.analysis.intervals import Interval, ratio_interval, speedup_interval
from aiflow_cli.analysis.metrics import Metric, Ratio, Record, by_image, decode_tpot, ratio_of_sums
from aiflow_cli.node.response import ideal_ways
from aiflow_cli.trials import bench

Arms = Mapping[str, Sequence[Record]]


@dataclass(frozen=True)
class Bound:
    """Something that must not be larger than `most` times something else."""

    key: str
    over: str
    under: str
    most: float
    ratio: Callable[[Arms], Interval | None]


@dataclass(frozen=True)
class Verdict:
    """A bound, and what was measured. `ratio` is None where no response was long enough to tell, and has no interval of too few images."""

    bound: Bound
    ratio: Interval | None

    @property
    def holds(self) -> bool | None:
        """Whether the measured ratio is within its bound; None where there is nothing, or too little, to judge by."""
        return self.ratio.value <= self.bound.most if self.ratio and self.ratio.known else None

    def as_json(self) -> dict[str, Any]:
        """An entry of `bounds`."""
        bound = self.bound
        return {
            "key": bound.key,
            "over": bound.over,
            "under": bound.under,
            "ratio": self.ratio and self.ratio.value,
            "ratio_ci": self.ratio and self.ratio.ends,
            "bound": bound.most,
            "holds": self.holds,
        }


def by_arm(records: Sequence[Record]) -> Arms:
    """Responses by arm, in the order of `trials/bench.py`."""
    return {arm: [record for record in records if record["arm"] == arm] for arm in bench.ARMS}


def judge(records: Sequence[Record]) -> list[Verdict]:
    """Every bound with what was measured."""
    arms = by_arm(records)
    return [Verdict(bound, bound.ratio(arms)) for bound in BOUNDS]


def decode_tpot_ms(records: Sequence[Record]) -> dict[str, float | None]:
    """Decode TPOT of every arm; None where every response was one delivery."""
    times = {arm: ratio_of_sums(own, decode_tpot) for arm, own in by_arm(records).items()}
    return {arm: None if time is None else 1e3 * time for arm, time in times.items()}


def differing_images(records: Sequence[Record]) -> list[str]:
    """Images whose outputs are not the same in all arms; all of them are the target's."""
    outputs: dict[str, set[tuple[int, ...]]] = {}
    for record in records:
        outputs.setdefault(record["image_id"], set()).add(tuple(record["tokens"]))
    return [image_id for image_id, found in outputs.items() if len(found) > 1]


def _tpot_ratio(over: str, under: str) -> Callable[[Arms], Interval | None]:
    return lambda arms: speedup_interval(by_image(arms[over], decode_tpot), by_image(arms[under], decode_tpot))


def _share(arm: str, metric: Metric) -> Callable[[Arms], Interval | None]:
    return lambda arms: ratio_interval(by_image(arms[arm], metric))


def orchestration(record: Record) -> Ratio:
    """What rounds took beyond both models and the ideal link, over what they took in all."""
    walls = sum(r["wall_s"] for r in record["rounds"])
    floors = sum(
        r["draft_s"] + r["verify_s"] + sum(ideal_ways(bench.SHAPED, r["bytes_up"], r["bytes_down"]))
        for r in record["rounds"]
    )
    return Ratio(walls - floors, walls)


def latency_over_floor(record: Record) -> Ratio:
    """Server-only latency, over the upload by the fluid model, the prefill and the decode steps by the model's own time."""
    upload_s = ideal_ways(bench.SHAPED, record["bytes_by_message"]["up"]["Request"], 0).up_s
    return Ratio(record["latency_s"], upload_s + record["prefill"]["server_s"] + sum(record["steps_s"]))


BOUNDS = (
    Bound(
        "decode",
        "server-only in one process: decode TPOT",
        "transformers' generate(): decode TPOT",
        0.75,
        _tpot_ratio(bench.LEAN, bench.GENERATE),
    ),
    Bound(
        "speculation",
        "co-located in one process: decode TPOT",
        "transformers' assisted generation: decode TPOT",
        0.7,
        _tpot_ratio(bench.COUPLED, bench.ASSISTED),
    ),
    Bound(
        "link",
        "speculative, unlimited link: decode TPOT",
        "co-located: decode TPOT",
        1.10,
        _tpot_ratio(bench.SPECULATIVE, bench.CO_LOCATED),
    ),
    Bound(
        "orchestration",
        "round at 1 MB/s without models and ideal link",
        "round at 1 MB/s",
        0.05,
        _share(bench.SHAPED_SPECULATIVE, orchestration),
    ),
    Bound(
        "latency",
        "server-only at 1 MB/s: latency",
        "fluid upload + prefill + decode steps",
        1.03,
        _share(bench.SHAPED_SERVER_ONLY, latency_over_floor),
    ),
)
