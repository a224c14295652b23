"""The figures of `aiflow bench` beside their bounds, each a ratio of sums over images with a paired bootstrap interval.

decode TPOT = (t_N - t_1) / (N - n1): the tokens of the first delivery took no time after it, whoever delivers them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from aiflow_cli.analysis.arms import Arm
from aiflow_cli.analysis.intervals import Interval
from aiflow_cli.analysis.metrics import Metric, Ratio, decode_tpot
from aiflow_cli.link.ways import ideal_ways
from aiflow_cli.trials import bench
from aiflow_cli.world.record import Trial

Responses = Mapping[str, Sequence[Trial]]
"""Responses by arm, as `trials/bench.py` names them."""
Verdict = Literal["HOLDS", "MISSED", "UNDECIDED"]


class Bound(NamedTuple):
    """Something that must not be larger than `most` times something else."""

    key: str
    over: str
    under: str
    most: float
    ratio: Callable[[Mapping[str, Arm]], Interval]


class Checked(NamedTuple):
    """A bound, and what was measured: nothing where no response was long enough, no interval of too few images."""

    bound: Bound
    ratio: Interval

    @property
    def verdict(self) -> Verdict:
        """By the whole interval: UNDECIDED where the bound lies within it, or where there is none."""
        if self.ratio.high <= self.bound.most:
            return "HOLDS"
        return "MISSED" if self.ratio.low > self.bound.most else "UNDECIDED"

    @property
    def holds(self) -> bool | None:
        """The verdict as JSON has it; None: undecided."""
        return {"HOLDS": True, "MISSED": False, "UNDECIDED": None}[self.verdict]

    def as_json(self) -> dict[str, Any]:
        """An entry of `bounds`."""
        told = {name: getattr(self.bound, name) for name in ("key", "over", "under")}
        judged = {"bound": self.bound.most, "holds": self.holds, "verdict": self.verdict}
        return told | self.ratio.as_json("ratio") | judged


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


def _tpot(over: str, under: str) -> Callable[[Mapping[str, Arm]], Interval]:
    return lambda arms: arms[over].over(arms[under], decode_tpot)


def _own(arm: str, metric: Metric) -> Callable[[Mapping[str, Arm]], Interval]:
    return lambda arms: arms[arm].interval(metric)


_HERE, _GENERATE = "server-only in one process: decode TPOT", "transformers' generate(): decode TPOT"
_COUPLED, _ASSISTED = "co-located in one process: decode TPOT", "transformers' assisted generation: decode TPOT"
_EDGE, _CO_LOCATED = "speculative, unlimited link: decode TPOT", "co-located: decode TPOT"
_ROUND, _REST = "round at 1 MB/s", "round at 1 MB/s without models and ideal link"
_LATENCY, _FLOOR = "server-only at 1 MB/s: latency", "fluid upload + prefill + decode steps"
BOUNDS = (
    Bound("decode", _HERE, _GENERATE, 0.75, _tpot(bench.LEAN, bench.GENERATE)),
    Bound("speculation", _COUPLED, _ASSISTED, 0.7, _tpot(bench.COUPLED, bench.ASSISTED)),
    Bound("link", _EDGE, _CO_LOCATED, 1.10, _tpot(bench.SPECULATIVE, bench.CO_LOCATED)),
    Bound("orchestration", _REST, _ROUND, 0.05, _own(bench.SHAPED_SPECULATIVE, orchestration)),
    Bound("latency", _LATENCY, _FLOOR, 1.03, _own(bench.SHAPED_SERVER_ONLY, latency_over_floor)),
)
