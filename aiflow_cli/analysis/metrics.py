"""The measured quantities, as pure functions of a trial.

With t0 = the image's bytes are in the device's memory, t_i = output token i is on the device, N tokens, n1 of them in
the first delivery:

    latency = t_N - t0                      TTFT = t_1 - t0
    TPOT = (t_N - t_1) / (N - 1)            decode TPOT = (t_N - t_1) / (N - n1)
    latency per token = latency / N         tokens per round = tokens that rounds delivered / rounds

A metric over several trials is a ratio of sums, never a mean of ratios. One token or one delivery leaves some of them
undefined: 0 over 0, which no interval counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

from aiflow_cli.decoding.methods import Method
from aiflow_cli.link.ways import Ways, ideal_ways, split_network
from aiflow_cli.world.record import Round, Trial

FORMULAS = {
    "TTFT": "t_1 - t0 (image upload and prefill included)",
    "latency per token": "(t_N - t0) / N",
    "TPOT": "(t_N - t_1) / (N - 1), as vllm bench serve has it; too kind to speculation",
    "decode TPOT": "(t_N - t_1) / (N - n1), n1 = tokens of the first delivery",
    "tokens per round": "tokens that rounds delivered / rounds",
}


class Ratio(NamedTuple):
    """A numerator and a denominator that are summed apart over trials: seconds over tokens, say."""

    over: float
    under: float


Metric = Callable[[Trial], Ratio]


def ttft(trial: Trial) -> Ratio:
    """Seconds to the first token, over one response."""
    return Ratio(trial.ttft_s, 1)


def latency_per_token(trial: Trial) -> Ratio:
    """latency, over N."""
    return Ratio(trial.latency_s, trial.n_tokens)


def tpot(trial: Trial) -> Ratio:
    """t_N - t_1, over N - 1."""
    return Ratio(trial.latency_s - trial.ttft_s, trial.n_tokens - 1)


def decode_tpot(trial: Trial) -> Ratio:
    """t_N - t_1, over N - n1."""
    return Ratio(trial.latency_s - trial.ttft_s, trial.n_tokens - trial.first_tokens)


DEFINITIONS: dict[str, Metric] = {
    "TTFT": ttft,
    "latency per token": latency_per_token,
    "TPOT": tpot,
    "decode TPOT": decode_tpot,
}
"""The definitions of latency, by their names in FORMULAS."""


def tokens_per_round(trial: Trial) -> Ratio:
    """Tokens that rounds delivered, over rounds: not 1 + accepted / rounds, as a drafted end has no token beside it."""
    return Ratio(sum(r.delivered for r in trial.rounds), len(trial.rounds))


def draft_acceptance(trial: Trial) -> Ratio:
    """Accepted over drafted tokens: falls with the draft length even where each draft is as good as the last."""
    return Ratio(sum(r.accepted for r in trial.rounds), sum(r.drafted for r in trial.rounds))


def acceptance(trial: Trial) -> Ratio:
    """Accepted over judged tokens, the papers' alpha: drafts after the first rejection are never judged."""
    return Ratio(sum(r.accepted for r in trial.rounds), sum(r.judged for r in trial.rounds))


@cache
def acceptance_at(position: int) -> Metric:
    """Conditional acceptance at a draft position (from 1): accepted there, over rounds that accepted all before it."""

    def metric(trial: Trial) -> Ratio:
        reached = [r for r in trial.rounds if r.judged >= position]
        return Ratio(sum(r.accepted >= position for r in reached), len(reached))

    return metric


def round_wall(trial: Trial) -> Ratio:
    """Seconds of rounds, over rounds."""
    return Ratio(sum(r.wall_s for r in trial.rounds), len(trial.rounds))


ROUND_PARTS: dict[str, Callable[[Round, Ways], float]] = {
    "draft": lambda r, _: r.draft_s,
    "encode": lambda r, _: r.encode_s,
    "uplink": lambda _, ways: ways.up_s,
    "queue": lambda r, _: r.queue_s,
    "verify": lambda r, _: r.verify_s,
    "downlink": lambda _, ways: ways.down_s,
    "apply": lambda r, _: r.apply_s,
}
"""The parts of a round, in their order; they sum to its `wall_s`. Up and down are modelled, see `round_ways`."""


@cache
def per_round(part: str) -> Metric:
    """Seconds of one of ROUND_PARTS, over rounds."""
    seconds = ROUND_PARTS[part]
    return lambda trial: Ratio(sum(seconds(r, round_ways(trial, r)) for r in trial.rounds), len(trial.rounds))


def round_ways(trial: Trial, r: Round) -> Ways:
    """The time of a round on the link, each way: modelled, since only their sum is measured (`link/ways.py`)."""
    if trial.setting.method is Method.CO_LOCATED:
        return Ways(0.0, r.network_s)  # the server goes on by itself: nothing went up
    return split_network(r.network_s, ideal_ways(trial.setting.link.spec, r.bytes_up, r.bytes_down))


def prefill_ways(trial: Trial) -> Ways:
    """The time of TTFT on the link, each way: modelled likewise; the first answer is a few bytes."""
    ideal = ideal_ways(trial.setting.link.spec, _request_bytes(trial), 0)
    return split_network(trial.prefill.network_s or 0.0, ideal)


def _request_bytes(trial: Trial) -> int:
    """The request, which carries the image."""
    return trial.bytes_up_by_message.get("Request", 0)


def bytes_up_per_token(trial: Trial) -> Ratio:
    """Bytes from device to server, image and framing included, over N."""
    return Ratio(trial.bytes_up, trial.n_tokens)


def bytes_down_per_token(trial: Trial) -> Ratio:
    """Bytes from server to device, framing included, over N."""
    return Ratio(trial.bytes_down, trial.n_tokens)


def round_bytes_up_per_token(trial: Trial) -> Ratio:
    """Bytes from device to server without the request that carries the image, over N."""
    return Ratio(trial.bytes_up - _request_bytes(trial), trial.n_tokens)


class Unit(NamedTuple):
    """What is compared in pairs and resampled: an image, on its node, in a session."""

    session: int
    node: str
    image_id: str

    @property
    def image(self) -> tuple[str, str]:
        """The image on its node: the same in every session."""
        return self.node, self.image_id


Sums = dict[Unit, Ratio]
"""A metric's sums by unit."""


def unit(trial: Trial) -> Unit:
    """The unit of a trial."""
    return Unit(trial.session, trial.node, trial.image_id)


def sums_of(trials: Iterable[Trial], metric: Metric) -> Sums:
    """A metric's sums by unit: repeats of an image in a session are added up."""
    sums: Sums = {}
    for trial in trials:
        (over, under), (more, below) = sums.get(unit(trial), (0.0, 0.0)), metric(trial)
        sums[unit(trial)] = Ratio(over + more, under + below)
    return sums
