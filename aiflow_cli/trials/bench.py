"""What `aiflow bench` measures: the same images by this program and by what it is held against, in one run.

Each way to make a response is an arm. Four run in this process without a link, two of them transformers' own
generation (`bench_inprocess.py`); four go to a server process, over an unlimited link or a shaped one. For each image
all arms take their turn in seeded random order. `analysis/bench.py` puts the figures beside their bounds.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import UsageError
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.trials.experiment import open_experiment
from aiflow_cli.trials.run import new_document
from aiflow_cli.trials.schedule import Planned, planned
from aiflow_cli.trials.served import pair_document
from aiflow_cli.trials.spec import ExperimentSpec
from aiflow_cli.world.live import LiveWorld
from aiflow_cli.world.record import Link, Setting, Trial, now

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

BASE = {"name": "bench", "about": "the program's own speed", "link": {"rate": ["unlimited", "1MB/s"]}, "warmups": 2}
"""What every bench has of an experiment's specification."""

Make = Callable[[Planned], Trial]


@dataclass(frozen=True)
class BenchResult:
    """The responses of every arm, and where they come from."""

    document: dict[str, Any]
    arms: dict[str, list[Trial]]


def bench(spec: ExperimentSpec, show: Callable[[int, int], None]) -> BenchResult:
    """Measure a pair at one draft length; `show` gets responses made, and all. Raises what a run can raise."""
    if spec.max_new_tokens == 1:
        raise UsageError("1 new token has no time per token: give 2 or more")
    opened = open_experiment(spec)
    (pair,), (gamma,) = opened.pairs.values(), spec.gammas["speculative"]
    settings = {}
    for arm, (method, link) in ARMS.items():
        length = None if method is Method.SERVER_ONLY else gamma
        settings[arm] = Setting(pair=pair.name, method=method, gamma=length, link=Link.of(link))
    turns = _turns(len(opened.records), spec)
    made = {arm: list[Trial]() for arm in ARMS}
    trials = sum(not warmup for _, _, warmup in turns)
    document = new_document(opened) | {"trials": trials, "gamma": gamma, "seed": spec.seed, "device": spec.device}
    with LiveWorld(opened.pairs, [settings[arm] for arm in OVER_A_LINK], spec) as world:
        document["pairs"] = [pair_document(pair, world.served[pair.name])]
        document["pair"] = document["pairs"][0]
        makes = dict.fromkeys(OVER_A_LINK, lambda one: world.trial(*one)) | _in_process(spec, gamma, world)
        for done, (index, arm, warmup) in enumerate(turns, start=1):
            trial = makes[arm](planned(opened.records[index], settings[arm], index, done, 0))
            made[arm] += [] if warmup else [trial]
            show(done, len(turns))
    document["provenance"]["finished_at"] = now()
    return BenchResult(document, made)


def _turns(n_images: int, spec: ExperimentSpec) -> list[tuple[int, str, bool]]:
    """Image, arm, and whether it is a warm-up, in the order in which they are made."""
    turns = [(0, arm, True) for _ in range(spec.warmups) for arm in ARMS]
    for image in range(n_images):
        order = random.Random(f"{spec.seed}/{image}").sample(list(ARMS), len(ARMS))
        turns += [(image, arm, False) for arm in order]
    return turns


def _in_process(spec: ExperimentSpec, gamma: int, world: LiveWorld) -> dict[str, Make]:
    from aiflow_cli.models.vlm import VisionLanguageModel
    from aiflow_cli.trials.bench_inprocess import InProcess

    (pair,) = spec.pair_specs().values()
    target = VisionLanguageModel.from_folder(pair.folder("target"), spec.device, world.served[pair.name].dtype)
    here = InProcess(target, world.draft(pair.name), spec.question(pair), spec.longest_answer(pair), gamma)
    return {LEAN: here.serve, GENERATE: here.generate, COUPLED: here.serve, ASSISTED: here.assisted}
