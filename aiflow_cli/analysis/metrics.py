"""The measured quantities, as pure functions of a trial record (one line of trials.jsonl).

With t0 = the image's bytes are in the device's memory, t_i = output token i is on the device, N tokens, n1 of them in the first delivery:

    latency = t_N - t0                      TTFT = t_1 - t0
    TPOT = (t_N - t_1) / (N - 1)            decode TPOT = (t_N - t_1) / (N - n1)
    latency per token = latency / N         tokens per round = tokens that rounds delivered / rounds

A metric over several trials is a ratio of sums, never a mean of ratios. Where a metric is not defined (one token, one delivery) it is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

Record = Mapping[str, Any]

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


Metric = Callable[[Record], Ratio]


def first_delivery_tokens(record: Record) -> int:
    """n1: tokens in the first delivery."""
    return int(record["deliveries"][0][1])


def ttft(record: Record) -> Ratio:
    """Seconds to the first token, over one response."""
    return Ratio(record["ttft_s"], 1)


def latency_per_token(record: Record) -> Ratio:
    """latency, over N."""
    return Ratio(record["latency_s"], record["n_tokens"])


def tpot(record: Record) -> Ratio:
    """t_N - t_1, over N - 1."""
    return Ratio(record["latency_s"] - record["ttft_s"], record["n_tokens"] - 1)


def decode_tpot(record: Record) -> Ratio:
    """t_N - t_1, over N - n1."""
    return Ratio(record["latency_s"] - record["ttft_s"], record["n_tokens"] - first_delivery_tokens(record))


def tokens_per_round(record: Record) -> Ratio:
    """Tokens that rounds delivered, over rounds (0 over 0 without rounds).

    The first token is the prefill's, no round's. It is not 1 + accepted / rounds: a round that ends with a drafted end has no token beside its
    drafts.
    """
    return Ratio(sum(r["delivered"] for r in record["rounds"]), len(record["rounds"]))


def draft_acceptance(record: Record) -> Ratio:
    """Accepted over drafted tokens: falls with the draft length even where each draft is as good as the last."""
    return Ratio(sum(r["accepted"] for r in record["rounds"]), sum(r["drafted"] for r in record["rounds"]))


def acceptance(record: Record) -> Ratio:
    """Accepted over judged tokens, the papers' alpha: drafts after the first rejection are never judged."""
    rounds = record["rounds"]
    return Ratio(sum(r["accepted"] for r in rounds), sum(judged(r) for r in rounds))


def judged(r: Mapping[str, Any]) -> int:
    """How many drafts of a round the target judged: the accepted ones, and the first rejected one.

    With `--exact` a round may end at an undecided position, and none of its drafts is rejected then. Older records do not tell.
    """
    return int(r.get("judged", min(r["drafted"], r["accepted"] + 1)))


def acceptance_at(position: int) -> Metric:
    """Conditional acceptance at a draft position (from 1): accepted there, over rounds whose earlier drafts were all accepted."""

    def metric(record: Record) -> Ratio:
        reached = [r for r in record["rounds"] if judged(r) >= position]
        return Ratio(sum(r["accepted"] >= position for r in reached), len(reached))

    return metric


ROUND_PARTS = ("draft_s", "encode_s", "uplink_s", "queue_s", "verify_s", "downlink_s", "apply_s")
"""The parts of a round, in their order; they sum to its `wall_s`."""


def per_round(part: str) -> Metric:
    """Seconds of one part of a round (or of `wall_s`), over rounds."""
    return lambda record: Ratio(sum(r[part] for r in record["rounds"]), len(record["rounds"]))


def bytes_up_per_token(record: Record) -> Ratio:
    """Bytes from device to server, image and framing included, over N."""
    return Ratio(record["bytes_up"], record["n_tokens"])


def bytes_down_per_token(record: Record) -> Ratio:
    """Bytes from server to device, framing included, over N."""
    return Ratio(record["bytes_down"], record["n_tokens"])


def round_bytes_up_per_token(record: Record) -> Ratio:
    """Bytes from device to server without the request that carries the image, over N."""
    request = record["bytes_by_message"]["up"].get("Request", 0)
    return Ratio(record["bytes_up"] - request, record["n_tokens"])


def ratio_of_sums(records: Iterable[Record], metric: Metric) -> float | None:
    """A metric over trials: sum of numerators over sum of denominators; None where that is 0 over 0."""
    parts = [metric(record) for record in records]
    under = sum(part.under for part in parts)
    return sum(part.over for part in parts) / under if under else None


def unit(record: Record) -> str:
    """What is resampled and paired: the image; where several nodes took part, the image on its node."""
    node = record.get("node")
    return str(record["image_id"]) if node is None else f"{node}/{record['image_id']}"


def by_image(records: Iterable[Record], metric: Metric, unit: Callable[[Record], str] = unit) -> dict[str, Ratio]:
    """A metric's sums image by image (repeats of an image are added up), apart for each node where `unit` tells nodes apart."""
    sums: dict[str, Ratio] = {}
    for record in records:
        key, part = unit(record), metric(record)
        before = sums.get(key, Ratio(0.0, 0.0))
        sums[key] = Ratio(before.over + part.over, before.under + part.under)
    return sums
