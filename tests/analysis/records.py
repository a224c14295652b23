"""Plausible results, made from the closed form: acceptance alpha at every position, draft step c and round cost F.

Costs are in server-only steps. Every image has one caption, which all methods but on-device give; times carry noise
that is common to an image, and noise of their own.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from aiflow_cli.decoding.methods import Method
from aiflow_cli.trials import store
from aiflow_cli.world.record import Delivery, Link, Prefill, Round, Setting, Trial

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
    """What a made-up result holds. `noise`: the relative deviation of each duration; `session_noise`: that of
    all rounds of a session together."""

    pairs: tuple[FakePair, ...] = (FakePair("small-weak"), FakePair("small", alpha=0.97))
    gammas: tuple[int, ...] = GAMMAS
    images: int = 24
    rates: tuple[float | None, ...] = (1e6,)
    delays: tuple[float, ...] = (0.0,)
    server_only: int = 2
    co_located: tuple[int, ...] = (4, 8)
    on_device: bool = True
    nodes: tuple[str, ...] = ()
    sessions: int = 1
    session_noise: float = 0.0
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


def write_records(folder: Path, trials: Sequence[Trial]) -> None:
    store.rewrite_trials(folder, trials)


def document(sweep: FakeSweep) -> dict[str, Any]:
    links = [msgspec.structs.asdict(link(rate, delay)) for rate in sweep.rates for delay in sweep.delays]
    pairs = [
        {"name": p.name, "about": f"{p.name}, made up", "draft": f"{p.name}-draft", "target": p.target}
        for p in sweep.pairs
    ]
    return {
        "schema_version": 2,
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
        "trials": sum(1 for r in records(sweep) if not r.warmup),
        "fingerprints": {},
        "sessions": [],
        "mixed": [],
        "failed": [],
        **sweep.extra,
    }


def link(rate: float | None, delay: float = 0.0) -> Link:
    return Link(uplink_bytes_per_s=rate, downlink_bytes_per_s=rate, burst_bytes=10_000, delay_s=delay)


def records(sweep: FakeSweep) -> Iterator[Trial]:
    """Warm-ups, then blocks of shuffled settings, in every session."""
    rng = random.Random(sweep.seed)
    pair = sweep.pairs[0]
    first = Setting(pair=pair.name, method=Method.SERVER_ONLY, gamma=None, link=link(1e6))
    yield _trial(sweep, rng, 0, 0, 0, pair, first).replace(warmup=True, trial="warmup-0")
    for session in range(sweep.sessions):
        for block in range(sweep.images):
            settings = list(_settings(sweep))
            rng.shuffle(settings)
            for order, (pair, setting) in enumerate(settings):
                yield _trial(sweep, rng, session, block, order, pair, setting)


def _settings(sweep: FakeSweep) -> Iterator[tuple[FakePair, Setting]]:
    for pair in sweep.pairs:
        for one in (link(rate, delay) for rate in sweep.rates for delay in sweep.delays):
            wanted: list[tuple[Method, int | None]] = [(Method.SERVER_ONLY, None)] * sweep.server_only
            wanted += [(Method.SPECULATIVE, gamma) for gamma in sweep.gammas]
            wanted += [(Method.CO_LOCATED, gamma) for gamma in sweep.co_located]
            wanted += [(Method.ON_DEVICE, None)] if sweep.on_device else []
            for method, gamma in wanted:
                yield pair, Setting(pair=pair.name, method=method, gamma=gamma, link=one)


def _trial(
    sweep: FakeSweep, rng: random.Random, session: int, block: int, order: int, pair: FakePair, setting: Setting
) -> Trial:
    per_image = random.Random(f"{sweep.seed}/{block}")
    n = max(2, round(per_image.gauss(sweep.caption_tokens, 4)))
    tokens = tuple(per_image.randrange(10, 500) for _ in range(n))
    slow = per_image.gauss(1, sweep.noise) * (1.3 if sweep.nodes and block % len(sweep.nodes) else 1.0)
    in_session = random.Random(f"{sweep.seed}/session {session}").gauss(1, sweep.session_noise)
    drafts = random.Random(f"{sweep.seed}/{block}/{pair.name}/{setting.label}")
    planned = Trial(
        trial=f"s{session}-{block:04d}-{order:03d}-{pair.name}-{setting.label}",
        session=session,
        node=sweep.nodes[block % len(sweep.nodes)] if sweep.nodes else "laptop",
        block=block,
        order=order,
        repeat=0,
        image_id=f"scene-{block:03d}",
        image_bytes=6000,
        setting=setting,
        started_at=f"2025-01-01T00:{block % 60:02d}:{order % 60:02d}.000Z",
        tokens=tokens,
        stopped=True,
        caption="A red bus heads left on a wet street.",
        identical=True if setting.on_server else None,
    )
    return _Maker(sweep, pair, rng, drafts, slow, in_session).make(planned)


@dataclass(frozen=True)
class _Maker:
    """Makes one response."""

    sweep: FakeSweep
    pair: FakePair
    rng: random.Random
    draft_rng: random.Random
    """What is accepted: the same in every session, as with greedy models."""
    slow: float
    in_session: float

    def time(self, steps: float) -> float:
        return steps * STEP_S * self.slow * max(0.2, self.rng.gauss(1, self.sweep.noise))

    def make(self, planned: Trial) -> Trial:
        match planned.setting.method:
            case Method.ON_DEVICE:
                prefill = Prefill(draft_s=self.time(0.5))
                return self._steps(planned.replace(tokens=planned.tokens[::-1]), prefill, self.pair.draft_cost)
            case Method.SERVER_ONLY:
                return self._steps(planned, self._prefill(planned, None), 1.0)
            case _:
                return self._rounds(planned)

    def _prefill(self, planned: Trial, draft_s: float | None) -> Prefill:
        ways = way(planned, 6100) + way(planned, 15)
        return Prefill(draft_s=draft_s, network_s=ways, server_s=self.time(3), queue_s=1e-5)

    def _steps(self, planned: Trial, prefill: Prefill, cost: float) -> Trial:
        steps = tuple(self.time(cost) for _ in planned.tokens[1:])
        remote = planned.setting.on_server
        deliveries = _deliveries(_first_s(planned, prefill), steps, [1] * len(steps))
        up, down = ({"Request": 6100}, {"Tokens": 15 * len(planned.tokens)}) if remote else ({}, {})
        return planned.replace(
            prefill=prefill, steps_s=steps, deliveries=deliveries, bytes_up_by_message=up, bytes_down_by_message=down
        )

    def _rounds(self, planned: Trial) -> Trial:
        remote, left = planned.setting.method is Method.SPECULATIVE, planned.n_tokens - 1
        prefill, rounds = self._prefill(planned, self.time(0.6)), []
        while left > 0:
            rounds.append(self._round(planned, min(planned.setting.gamma or 0, left), left, remote))
            left -= rounds[-1].delivered
        up = {"Request": 6100} | ({"Draft": sum(r.bytes_up for r in rounds)} if remote else {})
        down = {"Tokens": 15 if remote else 25 * (len(rounds) + 1)}
        down |= {"Verdict": sum(r.bytes_down for r in rounds)} if remote else {}
        walls, counts = [r.wall_s for r in rounds], [r.delivered for r in rounds]
        return planned.replace(
            prefill=prefill,
            rounds=tuple(rounds),
            deliveries=_deliveries(_first_s(planned, prefill), walls, counts),
            bytes_up_by_message=up,
            bytes_down_by_message=down,
        )

    def _round(self, planned: Trial, drafted: int, left: int, remote: bool) -> Round:
        accepted = next((k for k in range(drafted) if self.draft_rng.random() >= self.pair.alpha), drafted)
        up, down = (16 + 2 * drafted, 16) if remote else (0, 0)
        parts: dict[str, Any] = {
            "draft_s": sum(self.time(self.pair.draft_cost) for _ in range(drafted)),
            "encode_s": 3e-5,
            "network_s": way(planned, up) + way(planned, down) + 0.0002 if remote else 0.0001,
            "queue_s": 2e-5,
            "verify_s": self.time(self.pair.round_cost + self.pair.verify_slope * drafted),
            "apply_s": 2e-5,
        }
        parts = {name: seconds * self.in_session for name, seconds in parts.items()}
        return Round(
            drafted=drafted,
            judged=min(drafted, accepted + 1),
            accepted=accepted,
            delivered=min(accepted + 1, left),
            wall_s=sum(parts.values()),
            bytes_up=up,
            bytes_down=down,
            **parts,
        )


def way(planned: Trial, n_bytes: int) -> float:
    rate = planned.setting.link.uplink_bytes_per_s
    return planned.setting.link.delay_s + (n_bytes / rate if rate else 0.0)


def _first_s(planned: Trial, prefill: Prefill) -> float:
    """When the first token came; a draft model's prefill delays it where it runs before it, or on the server."""
    beside = planned.setting.method is Method.SPECULATIVE
    parts = (prefill.network_s, prefill.server_s, prefill.queue_s, None if beside else prefill.draft_s)
    return sum(part or 0.0 for part in parts)


def _deliveries(first_s: float, gaps: Sequence[float], counts: Sequence[int]) -> tuple[Delivery, ...]:
    found = [Delivery(first_s, 1)]
    for gap, count in zip(gaps, counts, strict=True):
        found.append(Delivery(found[-1].at_s + gap, count))
    return tuple(found)
