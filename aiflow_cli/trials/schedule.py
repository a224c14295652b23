"""The order of the trials: blocks by image, each in seeded random order, so that drift hits all settings alike."""

from __future__ import annotations

import itertools
import platform
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from aiflow_cli.world.record import Setting, Trial

if TYPE_CHECKING:
    from aiflow_cli.images.imageset import ImageRecord
    from aiflow_cli.trials.spec import ExperimentSpec

WARMUP = "warmup-"


class Planned(NamedTuple):
    """A trial to be made, and the bytes of its image."""

    trial: Trial
    image: bytes


def planned(
    image: ImageRecord, setting: Setting, block: int, order: int, repeat: int, session: int = 0, prefix: str = ""
) -> Planned:
    """A trial as it is known beforehand, on this machine."""
    trial = Trial(
        trial=f"{prefix}{block:04d}-{order:03d}-{setting.label}",
        session=session,
        node=platform.node(),
        block=block,
        order=order,
        repeat=repeat,
        warmup=prefix.startswith(WARMUP),
        image_id=image.image_id,
        image_bytes=len(image.data),
        setting=setting,
        started_at="",
    )
    return Planned(trial, image.data)


def schedule(images: Sequence[ImageRecord], spec: ExperimentSpec) -> Iterator[Planned]:
    """Every image with every setting, in each session; the order in a block depends on seed, session and block."""
    block = spec.block()
    for session, number in itertools.product(range(spec.sessions), range(spec.repeats * len(images))):
        repeat, index = divmod(number, len(images))
        order = list(block)
        random.Random(f"{spec.seed}/{session}/{number}").shuffle(order)
        for place, setting in enumerate(order):
            yield planned(images[index], setting, number, place, repeat, session, _prefix(session, spec))


def warmups(
    image: ImageRecord, settings: Sequence[Setting], spec: ExperimentSpec, session: int, first: int, times: int = 0
) -> list[Planned]:
    """An image with every setting, to be thrown away: memory, caches and clocks settle. Blocks count from `first`, and
    on for each of the `times` that there were warm-ups before.
    """
    prefix, block = WARMUP + _prefix(session, spec), first + times * spec.warmups
    return [
        planned(image, setting, block + repeat, order, repeat, session, prefix)
        for repeat in range(spec.warmups)
        for order, setting in enumerate(settings)
    ]


def _prefix(session: int, spec: ExperimentSpec) -> str:
    """Names carry the session where there are several."""
    return f"s{session}-" if spec.sessions > 1 else ""
