"""The order of the trials: blocks by image, all settings of a block in seeded random order, so that drift hits all
alike.
"""

from __future__ import annotations

import itertools
import platform
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from aiflow_cli.world.record import Setting, Trial

if TYPE_CHECKING:
    from aiflow_cli.images.imageset import ImageRecord

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


def schedule(
    images: Sequence[ImageRecord], block: Sequence[Setting], repeats: int, seed: int, sessions: int = 1
) -> Iterator[Planned]:
    """Every image with every setting of a block, `repeats` times in each session. The order within a block depends on
    seed, session and block alone.
    """
    for session, number in itertools.product(range(sessions), range(repeats * len(images))):
        repeat, index = divmod(number, len(images))
        order = list(block)
        random.Random(f"{seed}/{session}/{number}").shuffle(order)
        for place, setting in enumerate(order):
            yield planned(images[index], setting, number, place, repeat, session, _prefix(session, sessions))


def warmups(
    image: ImageRecord,
    settings: Sequence[Setting],
    repeats: int,
    first: int,
    session: int,
    sessions: int,
    times: int = 0,
) -> list[Planned]:
    """An image with every setting, to be thrown away: memory, caches and clocks settle. Blocks count from `first`, and
    on for each of the `times` that there were warm-ups before.
    """
    prefix, block = WARMUP + _prefix(session, sessions), first + times * repeats
    return [
        planned(image, setting, block + repeat, order, repeat, session, prefix)
        for repeat in range(repeats)
        for order, setting in enumerate(settings)
    ]


def _prefix(session: int, sessions: int) -> str:
    """Names carry the session where there are several."""
    return f"s{session}-" if sessions > 1 else ""
