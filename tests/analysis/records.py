"""Plausible results, made from the closed form: acceptance alpha at every position, draft step c and round cost F in server-only steps.

Every image has one caption, which all methods but on-device give; times carry noise that is common to an image, and noise of their own.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEP_S = 0.010
GAMMAS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 22, 24, 28)


@dataclass(frozen=True)
class FakePair:
    """A pair by its numbers."""

    name: str
    alpha: float = 0.80
    draft_cost: float = 0.18
    round_cost: float = 0.95
    verify_slope: float = 0.0
    target: str = "small-target"


@dataclass(frozen=True)
class FakeSweep:
    """What a made-up result holds. `noise`: the relative deviation of each duration."""

    pairs: tuple[FakePair, ...] = (FakePair("small-weak"), FakePair("small", alpha=0.97))
    gammas: tuple[int, ...] = GAMMAS
    images: int = 24
    rates: tuple[float | None, ...] = (1e6,)
    delays: tuple[float, ...] = (0.0,)
    server_only: int = 2
    co_located: tuple[int, ...] = (4, 8)
    on_device: bool = True
    nodes: tuple[str, ...] = ()
    noise: float = 0.03
    caption_tokens: int = 60
    seed: int = 1
    data: str = "scenes"
    extra: dict[str, Any] = field(default_factory=dict)


def write_result(folder: Path, sweep: FakeSweep) -> Path:
    """A result folder with trials.jsonl and run.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_records(folder, list(records(sweep)))
    (folder / "run.json").write_text(json.dumps(document(sweep), indent=2))
    return folder


def write_records(folder: Path, trials: Sequence[dict[str, Any]]) -> None:
    (folder / "trials.jsonl").write_text("".join(json.dumps(trial) + "\n" for trial in trials))


def document(sweep: FakeSweep) -> dict[str, Any]:
    links = [link(rate, delay) for rate in sweep.rates for delay in sweep.delays]
    pairs = [
        {"name": p.name, "about": f"{p.name}, made up", "draft": f"{p.name}-draft", "target": p.target}
        for p in sweep.pairs
    ]
    return {
        "schema_version": 1,
        "name": "figure6",
        "spec": {"name": "figure6", "data": sweep.data, "images": sweep.images, "seed": sweep.seed},
        "provenance": {
            "command": ["aiflow", "sweep", "figure6"],
            "started_at": "2025-01-01T00:00:00.000Z",
            "finished_at": "2025-01-01T00:08:00.000Z",
            "aiflow": "0.1.0",
            "git": {"revision": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
            "python": "3.11.2",
            "packages": {"torch": "2.13.0", "transformers": "5.23.0"},
            "platform": "Linux-6.1-x86_64",
            "host": "laptop",
            "cpu": {"model": "AMD EPYC 7B13", "cores": 2, "usable_cores": 2, "flags": ["avx2"]},
            "gpu": None,
            "memory_bytes": 8_000_000_000,
            "load_at_start": [0.2, 0.1, 0.1],
        },
        "pairs": pairs,
        "links": links,
        "data": {"name": sweep.data, "fingerprint": "f" * 64, "images": sweep.images},
        "trials": sum(1 for r in records(sweep) if not r["warmup"]),
        **sweep.extra,
    }


def link(rate: float | None, delay: float = 0.0) -> dict[str, Any]:
    return {"uplink_bytes_per_s": rate, "downlink_bytes_per_s": rate, "burst_bytes": 10_000, "delay_s": delay}


def records(sweep: FakeSweep) -> Iterator[dict[str, Any]]:
    """Warm-ups, then blocks of shuffled settings."""
    rng = random.Random(sweep.seed)
    yield _trial(sweep, rng, 0, 0, (sweep.pairs[0], link(1e6), "server-only", None)) | {
        "warmup": True,
        "trial": "warmup-0",
    }
    for block in range(sweep.images):
        settings = list(_settings(sweep))
        rng.shuffle(settings)
        for order, setting in enumerate(settings):
            yield _trial(sweep, rng, block, order, setting)


def _settings(sweep: FakeSweep) -> Iterator[tuple[FakePair, dict[str, Any], str, int | None]]:
    for pair in sweep.pairs:
        for rate in sweep.rates:
            for delay in sweep.delays:
                one = link(rate, delay)
                yield from ((pair, one, "server-only", None) for _ in range(sweep.server_only))
                yield from ((pair, one, "speculative", gamma) for gamma in sweep.gammas)
                yield from ((pair, one, "co-located", gamma) for gamma in sweep.co_located)
                if sweep.on_device:
                    yield (pair, one, "on-device", None)


def _trial(
    sweep: FakeSweep,
    rng: random.Random,
    block: int,
    order: int,
    setting: tuple[FakePair, dict[str, Any], str, int | None],
) -> dict[str, Any]:
    pair, one, method, gamma = setting
    per_image = random.Random(f"{sweep.seed}/{block}")
    n = max(2, round(per_image.gauss(sweep.caption_tokens, 4)))
    tokens = [per_image.randrange(10, 500) for _ in range(n)]
    slow = per_image.gauss(1, sweep.noise) * (1.3 if sweep.nodes and block % len(sweep.nodes) else 1.0)
    maker = _Maker(sweep, pair, one, rng, slow, tokens)
    made = maker.make(method, gamma)
    node = {"node": sweep.nodes[block % len(sweep.nodes)]} if sweep.nodes else {}
    label = method if gamma is None else f"{method}-{gamma}"
    return {
        "trial": f"{block:04d}-{order:03d}-{pair.name}-{label}",
        "block": block,
        "order": order,
        "repeat": 0,
        "warmup": False,
        "image_id": f"scene-{block:03d}",
        "image_bytes": 6000,
        "pair": pair.name,
        "method": method,
        "gamma": gamma,
        "link": one,
        "started_at": f"2025-01-01T00:{block % 60:02d}:{order % 60:02d}.000Z",
        **made,
        "identical": None if method == "on-device" else True,
        "mismatch": None,
        **node,
    }


class _Maker:
    """One response."""

    def __init__(
        self, sweep: FakeSweep, pair: FakePair, one: dict[str, Any], rng: random.Random, slow: float, tokens: list[int]
    ) -> None:
        self.sweep, self.pair, self.link, self.rng, self.slow, self.tokens = sweep, pair, one, rng, slow, tokens

    def time(self, steps: float) -> float:
        return steps * STEP_S * self.slow * max(0.2, self.rng.gauss(1, self.sweep.noise))

    def way(self, n_bytes: int) -> float:
        rate = self.link["uplink_bytes_per_s"]
        return float(self.link["delay_s"]) + (n_bytes / rate if rate else 0.0)

    def make(self, method: str, gamma: int | None) -> dict[str, Any]:
        if method == "on-device":
            return self._steps(self.tokens[::-1], self.time(0.5), self.pair.draft_cost, None)
        if method == "server-only":
            return self._steps(self.tokens, None, 1.0, self.way(6100))
        assert gamma is not None
        return self._rounds(gamma, remote=method == "speculative")

    def _document(
        self, tokens: list[int], deliveries: list[list[float]], up: dict[str, int], down: dict[str, int]
    ) -> dict[str, Any]:
        return {
            "tokens": tokens,
            "n_tokens": len(tokens),
            "stopped": True,
            "caption": "A red bus heads left on a wet street.",
            "deliveries": deliveries,
            "ttft_s": deliveries[0][0],
            "latency_s": deliveries[-1][0],
            "bytes_up": sum(up.values()),
            "bytes_down": sum(down.values()),
            "bytes_by_message": {"up": up, "down": down},
        }

    def _steps(self, tokens: list[int], draft_s: float | None, cost: float, upload_s: float | None) -> dict[str, Any]:
        server_s = None if upload_s is None else self.time(3)
        at = draft_s if upload_s is None else upload_s + (server_s or 0) + self.way(15)
        assert at is not None
        steps = [self.time(cost) for _ in tokens[1:]]
        deliveries: list[list[float]] = [[at, 1]]
        for step in steps:
            deliveries.append([deliveries[-1][0] + step, 1])
        remote = upload_s is not None
        up, down = ({"Request": 6100}, {"Tokens": 15 * len(tokens)}) if remote else ({}, {})
        return self._document(tokens, deliveries, up, down) | {
            "prefill": {
                "draft_s": draft_s,
                "upload_s": upload_s,
                "server_s": server_s,
                "server_queue_s": 1e-5 if remote else None,
            },
            "steps_s": steps,
            "rounds": [],
        }

    def _rounds(self, gamma: int, remote: bool) -> dict[str, Any]:
        upload_s, server_s = self.way(6100), self.time(3)
        deliveries: list[list[float]] = [[upload_s + server_s + self.way(15), 1]]
        rounds, left = [], len(self.tokens) - 1
        while left > 0:
            rounds.append(self._round(min(gamma, left), left, remote))
            left -= rounds[-1]["delivered"]
            deliveries.append([deliveries[-1][0] + rounds[-1]["wall_s"], rounds[-1]["delivered"]])
        up = {"Request": 6100} | ({"Draft": sum(r["bytes_up"] for r in rounds)} if remote else {})
        down = {"Tokens": 15 if remote else 25 * (len(rounds) + 1)} | (
            {"Verdict": sum(r["bytes_down"] for r in rounds)} if remote else {}
        )
        draft_s = self.time(0.6)
        if not remote:  # prefilled on the server, after the target
            deliveries = [[at + draft_s, n] for at, n in deliveries]
        return self._document(self.tokens, deliveries, up, down) | {
            "prefill": {"draft_s": draft_s, "upload_s": upload_s, "server_s": server_s, "server_queue_s": 1e-5},
            "steps_s": [],
            "rounds": rounds,
        }

    def _round(self, drafted: int, left: int, remote: bool) -> dict[str, Any]:
        accepted = next((k for k in range(drafted) if self.rng.random() >= self.pair.alpha), drafted)
        up, down = (16 + 2 * drafted, 16) if remote else (0, 0)
        ways = (self.way(up) + 0.0001, self.way(down) + 0.0001) if remote else (0.0, 0.0001)
        parts = {
            "draft_s": sum(self.time(self.pair.draft_cost) for _ in range(drafted)),
            "encode_s": 3e-5,
            "uplink_s": ways[0],
            "queue_s": 2e-5,
            "verify_s": self.time(self.pair.round_cost + self.pair.verify_slope * drafted),
            "downlink_s": ways[1],
            "apply_s": 2e-5,
        }
        return {
            "drafted": drafted,
            "accepted": accepted,
            "delivered": min(accepted + 1, left),
            **parts,
            "wall_s": sum(parts.values()),
            "bytes_up": up,
            "bytes_down": down,
        }
