"""What `aiflow bench` measures: the same images by this program and by what it is held against, in one run.

Each way to make a response is an arm. Four run in this process without a link, two of them transformers' own
generation (`bench_inprocess.py`); four go to a server process, over an unlimited link or a shaped one. For each image
all arms take their turn in seeded random order, so that drift hits all alike. `analysis/bench.py` puts the figures
beside their bounds.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiflow_cli.decoding.methods import MAX_GAMMA, Method
from aiflow_cli.errors import UsageError
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.models.pair import PairSpec
from aiflow_cli.trials import provenance
from aiflow_cli.trials.schedule import Planned, planned
from aiflow_cli.trials.served import pair_document, recorded
from aiflow_cli.trials.spec import DEFAULT_GAMMA
from aiflow_cli.world.conditions import Conditions
from aiflow_cli.world.live import LiveWorld
from aiflow_cli.world.record import SCHEMA_VERSION, Link, Setting, Trial, now

UNLIMITED = LinkSpec(math.inf, math.inf)
SHAPED = LinkSpec(1e6, 1e6)
"""The link of the bounds: 1 MB/s each way."""

LEAN, GENERATE, COUPLED, ASSISTED = "server-only here", "generate() here", "co-located here", "assisted generate() here"
CO_LOCATED, SPECULATIVE = "co-located, unlimited link", "speculative, unlimited link"
SHAPED_SERVER_ONLY, SHAPED_SPECULATIVE = "server-only, 1 MB/s", "speculative, 1 MB/s"
ARMS = {
    LEAN: (Method.SERVER_ONLY, UNLIMITED),
    GENERATE: (Method.SERVER_ONLY, UNLIMITED),
    COUPLED: (Method.CO_LOCATED, UNLIMITED),
    ASSISTED: (Method.CO_LOCATED, UNLIMITED),
    CO_LOCATED: (Method.CO_LOCATED, UNLIMITED),
    SPECULATIVE: (Method.SPECULATIVE, UNLIMITED),
    SHAPED_SPECULATIVE: (Method.SPECULATIVE, SHAPED),
    SHAPED_SERVER_ONLY: (Method.SERVER_ONLY, SHAPED),
}
"""What each arm does; those named `here` do it in this process."""
OVER_A_LINK = (CO_LOCATED, SPECULATIVE, SHAPED_SPECULATIVE, SHAPED_SERVER_ONLY)

Make = Callable[[Planned], Trial]
Show = Callable[[int, int], None]


@dataclass(frozen=True)
class BenchSettings:
    """What is benched. `max_new_tokens` of None is the pair's own."""

    pair: PairSpec
    data: str = "scenes"
    images: int = 12
    gamma: int = DEFAULT_GAMMA
    seed: int = 0
    device: str = "cpu"
    max_new_tokens: int | None = None
    warmups: int = 2

    def __post_init__(self) -> None:
        """Raise UsageError for what cannot be benched."""
        if not 1 <= self.gamma <= MAX_GAMMA:
            raise UsageError(f"gamma {self.gamma} is out of range: give a draft length from 1 to {MAX_GAMMA}")
        if self.max_new_tokens is not None and self.max_new_tokens < 2:
            raise UsageError(f"{self.max_new_tokens} new tokens have no time per token: give 2 or more")

    def setting(self, arm: str) -> Setting:
        """What an arm runs."""
        method, link = ARMS[arm]
        gamma = None if method is Method.SERVER_ONLY else self.gamma
        return Setting(pair=self.pair.name, method=method, gamma=gamma, link=Link.of(link))


@dataclass(frozen=True)
class BenchResult:
    """The responses of every arm, and where they come from."""

    document: dict[str, Any]
    arms: dict[str, list[Trial]]


def bench(settings: BenchSettings, show: Show) -> BenchResult:
    """Measure; `show` gets responses made and all of them. Raises what a run can raise."""
    from aiflow_cli.images.source import open_images

    images = list(open_images(settings.data, settings.images, settings.seed))
    turns = _turns(len(images), settings)
    document = _document(settings, len(images))
    pair, made = settings.pair, {arm: list[Trial]() for arm in ARMS}
    conditions = Conditions(device=settings.device, max_new_tokens=settings.max_new_tokens)
    with LiveWorld({pair.name: pair}, map(settings.setting, OVER_A_LINK), conditions) as world:
        document["pair"] |= recorded(pair, world.served[pair.name])
        arms = dict.fromkeys(OVER_A_LINK, _over_a_link(world)) | _in_process(settings, world)
        for done, (index, arm, warmup) in enumerate(turns, start=1):
            trial = arms[arm](planned(images[index], settings.setting(arm), index, done, 0))
            made[arm] += [] if warmup else [trial]
            show(done, len(turns))
    document["provenance"]["finished_at"] = now()
    return BenchResult(document, made)


def _turns(n_images: int, settings: BenchSettings) -> list[tuple[int, str, bool]]:
    """Image, arm, and whether it is a warm-up, in the order in which they are made."""
    turns = [(0, arm, True) for _ in range(settings.warmups) for arm in ARMS]
    for image in range(n_images):
        order = random.Random(f"{settings.seed}/{image}").sample(list(ARMS), len(ARMS))
        turns += [(image, arm, False) for arm in order]
    return turns


def _in_process(settings: BenchSettings, world: LiveWorld) -> dict[str, Make]:
    from aiflow_cli.models.vlm import VisionLanguageModel
    from aiflow_cli.trials.bench_inprocess import InProcess

    pair = settings.pair
    target = VisionLanguageModel.from_folder(pair.folder("target"), settings.device, world.served[pair.name].dtype)
    longest = settings.max_new_tokens or pair.max_new_tokens
    here = InProcess(target, world.draft(pair.name), pair.question, longest, settings.gamma)
    return {LEAN: here.serve, GENERATE: here.generate, COUPLED: here.serve, ASSISTED: here.assisted}


def _over_a_link(world: LiveWorld) -> Make:
    return lambda one: world.trial(*one)


def _document(settings: BenchSettings, n_images: int) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "name": "bench",
        "provenance": provenance.gather(),
        "pair": pair_document(settings.pair),
        "data": {"name": Path(settings.data).name, "images": n_images},
        "gamma": settings.gamma,
        "seed": settings.seed,
        "device": settings.device,
    }
