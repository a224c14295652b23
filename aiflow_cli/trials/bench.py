"""What `aiflow bench` measures: the same images by this program and by what it is held against, in one run, interleaved by image.

Each way to make a response is an arm. Four run in this process without a link, two of them transformers' own generation
(`bench_inprocess.py`); four go to a server process, over an unlimited link or a shaped one. For each image all arms take
their turn in seeded random order, so that drift hits all alike. `analysis/bench.py` puts the figures beside their bounds.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiflow_cli.decoding.methods import MAX_GAMMA, Method
from aiflow_cli.errors import UsageError
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.models.pair import PairSpec
from aiflow_cli.trials import provenance
from aiflow_cli.trials.live import LiveOptions, LiveWorld
from aiflow_cli.trials.run import pair_document
from aiflow_cli.trials.schedule import Slot
from aiflow_cli.trials.served import recorded
from aiflow_cli.trials.settings import DEFAULT_GAMMA, Setting
from aiflow_cli.trials.store import SCHEMA_VERSION, Record

if TYPE_CHECKING:
    from aiflow_cli.images.imageset import ImageRecord

UNLIMITED = LinkSpec(math.inf, math.inf)
SHAPED = LinkSpec(1e6, 1e6)
"""The link of the bounds: 1 MB/s each way."""

LEAN, GENERATE, COUPLED, ASSISTED = "server-only here", "generate() here", "co-located here", "assisted generate() here"
CO_LOCATED, SPECULATIVE = "co-located, unlimited link", "speculative, unlimited link"
SHAPED_SERVER_ONLY, SHAPED_SPECULATIVE = "server-only, 1 MB/s", "speculative, 1 MB/s"
ARMS = (LEAN, GENERATE, COUPLED, ASSISTED, CO_LOCATED, SPECULATIVE, SHAPED_SPECULATIVE, SHAPED_SERVER_ONLY)

Arm = Callable[["ImageRecord"], Record]
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

    def live(self) -> dict[str, Setting]:
        """The arms that go to a server."""
        speculative, co_located = (
            (method, self.gamma, self.pair.name) for method in (Method.SPECULATIVE, Method.CO_LOCATED)
        )
        return {
            CO_LOCATED: Setting(*co_located, UNLIMITED),
            SPECULATIVE: Setting(*speculative, UNLIMITED),
            SHAPED_SPECULATIVE: Setting(*speculative, SHAPED),
            SHAPED_SERVER_ONLY: Setting(Method.SERVER_ONLY, None, self.pair.name, SHAPED),
        }


@dataclass(frozen=True)
class BenchResult:
    """All responses, each with its `arm`, and where they come from."""

    document: dict[str, Any]
    records: list[Record]


def bench(settings: BenchSettings, show: Show) -> BenchResult:
    """Measure; `show` gets responses made and all of them. Raises what a run can raise."""
    from aiflow_cli.images.source import open_images

    images = list(open_images(settings.data, settings.images, settings.seed))
    turns = _turns(len(images), settings)
    document = _document(settings, len(images))
    records: list[Record] = []
    options = LiveOptions(device=settings.device, max_new_tokens=settings.max_new_tokens)
    live = settings.live()
    with LiveWorld({settings.pair.name: settings.pair}, live.values(), options) as world:
        document["pair"] |= recorded(settings.pair, world.served[settings.pair.name])
        arms = _in_process(settings, world) | {name: _over_a_link(world, setting) for name, setting in live.items()}
        for done, (image, name, warmup) in enumerate(turns, start=1):
            record = arms[name](images[image]) | {"arm": name}
            records += [] if warmup else [record]
            show(done, len(turns))
    document["provenance"]["finished_at"] = provenance.now()
    return BenchResult(document, records)


def _turns(n_images: int, settings: BenchSettings) -> list[tuple[int, str, bool]]:
    """Image, arm, and whether it is a warm-up, in the order in which they are made."""
    turns = [(0, arm, True) for _ in range(settings.warmups) for arm in ARMS]
    for image in range(n_images):
        order = random.Random(f"{settings.seed}/{image}").sample(ARMS, len(ARMS))
        turns += [(image, arm, False) for arm in order]
    return turns


def _in_process(settings: BenchSettings, world: LiveWorld) -> dict[str, Arm]:
    from aiflow_cli.models.vlm import VisionLanguageModel
    from aiflow_cli.trials.bench_inprocess import InProcess

    pair = settings.pair
    target = VisionLanguageModel.from_folder(pair.folder("target"), settings.device, world.dtype(pair.name))
    here = InProcess(
        target,
        world.draft(pair.name),
        pair.question,
        settings.max_new_tokens or pair.max_new_tokens,
        settings.gamma,
    )
    return {LEAN: here.server_only, GENERATE: here.generate, COUPLED: here.co_located, ASSISTED: here.assisted}


def _over_a_link(world: LiveWorld, setting: Setting) -> Arm:
    return lambda image: world.trial(Slot(0, 0, 0, 0, setting), image)


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
