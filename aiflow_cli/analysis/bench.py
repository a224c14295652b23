"""The figures of `aiflow bench` beside their bounds, each a ratio of sums over images with a paired bootstrap interval.

decode TPOT = (t_N - t_1) / (N - n1): the tokens of the first delivery took no time after it, whoever delivers them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiflow_cli.analysis.arms import Arm
from aiflow_cli.analysis.intervals import Interval, ends_of, value_of
from aiflow_cli.analysis.metrics import Metric, Ratio, decode_tpot
from aiflow_cli.link.ways import ideal_ways
from aiflow_cli.trials import bench
from aiflow_cli.world.record import Trial

Responses = Mapping[str, Sequence[Trial]]
"""Responses by arm, as `trials/bench.py` names them."""


@dataclass(frozen=True)
class Bound:
    """Something that must not be larger than `most` times something else."""

    key: str
    over: str
    under: str
    most: float
    ratio: Callable[[Mapping[str, Arm]], Interval | None]


@dataclass(frozen=True)
class Checked:
    """A bound, and what was measured: None where no response was long enough, without interval of too few images."""

    bound: Bound
    ratio: Interval | None

    @property
    def holds(self) -> bool | None:
        """Whether the measured ratio is within its bound; None where there is nothing, or too little, to judge by."""
        return self.ratio.value <= self.bound.most if self.ratio and self.ratio.known else None

    def as_json(self) -> dict[str, Any]:
        """An entry of `bounds`."""
        told = {name: getattr(self.bound, name) for name in ("key", "over", "under")}
        measured = {"ratio": value_of(self.ratio), "ratio_ci": ends_of(self.ratio)}
        return told | measured | {"bound": self.bound.most, "holds": self.holds}


def check_bounds(responses: Responses) -> list[Checked]:
    """Every bound with what was measured."""
    arms = {name: Arm(trials) for name, trials in responses.items()}
    return [Checked(bound, bound.ratio(arms)) for bound in BOUNDS]


def decode_tpot_ms(responses: Responses) -> dict[str, float | None]:
    """Decode TPOT of every arm; None where every response was one delivery."""
    times = {name: Arm(trials).value(decode_tpot) for name, trials in responses.items()}
    return {name: None if time is None else 1e3 * time for name, time in times.items()}


def differing_images(responses: Responses) -> list[str]:
    """Images whose outputs are not the same in all arms; all of them are the target's."""
    outputs: dict[str, set[tuple[int, ...]]] = {}
    for trial in (trial for trials in responses.values() for trial in trials):
        outputs.setdefault(trial.image_id, set()).add(trial.tokens)
    return [image_id for image_id, found in outputs.items() if len(found) > 1]


def orchestration(trial: Trial) -> Ratio:
    """What rounds took beyond both models and the ideal link, over what they took in all."""
    walls = sum(r.wall_s for r in trial.rounds)
    ways = (ideal_ways(bench.SHAPED, r.bytes_up, r.bytes_down) for r in trial.rounds)
    models = sum(r.draft_s + r.verify_s for r in trial.rounds)
    return Ratio(walls - models - sum(map(sum, ways)), walls)


def latency_over_floor(trial: Trial) -> Ratio:
    """Server-only latency, over the upload by the fluid model, the prefill and the decode steps by the model's time."""
    upload_s = ideal_ways(bench.SHAPED, trial.bytes_up_by_message["Request"], 0).up_s
    return Ratio(trial.latency_s, upload_s + (trial.prefill.server_s or 0.0) + sum(trial.steps_s))


def _tpot(key: str, over: tuple[str, str], under: tuple[str, str], most: float) -> Bound:
    """Of decode TPOT: each side by its name and its arm."""
    first, second = (f"{name}: decode TPOT" for name, _ in (over, under))
    return Bound(key, first, second, most, lambda arms: arms[over[1]].over(arms[under[1]], decode_tpot))


def _share(key: str, over: str, under: str, most: float, arm: str, metric: Metric) -> Bound:
    """Of one arm's metric."""
    return Bound(key, over, under, most, lambda arms: arms[arm].interval(metric))


_SERVER, _COUPLED = ("server-only in one process", bench.LEAN), ("co-located in one process", bench.COUPLED)
_GENERATE = ("transformers' generate()", bench.GENERATE)
_ASSISTED = ("transformers' assisted generation", bench.ASSISTED)
_EDGE, _CO_LOCATED = ("speculative, unlimited link", bench.SPECULATIVE), ("co-located", bench.CO_LOCATED)
_ROUND, _MODELS = "round at 1 MB/s", "round at 1 MB/s without models and ideal link"
_LATENCY, _FLOOR = "server-only at 1 MB/s: latency", "fluid upload + prefill + decode steps"
BOUNDS = (
    _tpot("decode", _SERVER, _GENERATE, 0.75),
    _tpot("speculation", _COUPLED, _ASSISTED, 0.7),
    _tpot("link", _EDGE, _CO_LOCATED, 1.10),
    _share("orchestration", _MODELS, _ROUND, 0.05, bench.SHAPED_SPECULATIVE, orchestration),
    _share("latency", _LATENCY, _FLOOR, 1.03, bench.SHAPED_SERVER_ONLY, latency_over_floor),
)
