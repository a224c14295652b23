"""The order of the trials: blocks by image, all settings of a block in seeded random order, so that drift hits all alike."""

from __future__ import annotations

import platform
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from aiflow_cli.world.record import Setting, Trial

if TYPE_CHECKING:
    from aiflow_cli.images.imageset import ImageRecord


class Planned(NamedTuple):
    """A trial to be made, and the bytes of its image."""

    trial: Trial
    image: bytes


def planned(
    image: ImageRecord, setting: Setting, block: int, order: int, repeat: int, name: str | None = None
) -> Planned:
    """A trial as it is known beforehand, on this machine."""
    trial = Trial(
        trial=name or f"{block:04d}-{order:03d}-{setting.label}",
        node=platform.node(),
        block=block,
        order=order,
        repeat=repeat,
        image_id=image.image_id,
        image_bytes=len(image.data),
        setting=setting,
        started_at="",
    )
    return Planned(trial, image.data)


def schedule(
    images: Sequence[ImageRecord], block: Sequence[Setting], repeats: int, seed: int, sessions: int = 1
) -> Iterator[Planned]:
    """Every image with every setting of a block, `repeats` times in each session. Names carry the session if there are
    several; the order within a block depends on seed, session and block alone.
    """
    for session in range(sessions):
        for number in range(repeats * len(images)):
            repeat, index = divmod(number, len(images))
            order = list(block)
            random.Random(f"{seed}/{session}/{number}").shuffle(order)
            for place, setting in enumerate(order):
                yield _in_session(planned(images[index], setting, number, place, repeat), session, sessions)


def warmups(
    image: ImageRecord,
    settings: Sequence[Setting],
    repeats: int,
    first_block: int,
    session: int,
    sessions: int,
    times: int = 0,
) -> list[Planned]:
    """An image with every setting, to be thrown away: memory, caches and clocks settle. Blocks count from `first_block`,
    and on for each of the `times` that there were warm-ups before.
    """
    first_block += times * repeats
    made = [
        _in_session(planned(image, setting, first_block + repeat, order, repeat), session, sessions)
        for repeat in range(repeats)
        for order, setting in enumerate(settings)
    ]
    return [Planned(trial.replace(trial=f"warmup-{trial.trial}", warmup=True), data) for trial, data in made]


def _in_session(one: Planned, session: int, sessions: int) -> Planned:
    name = f"s{session}-{one.trial.trial}" if sessions > 1 else one.trial.trial
    return Planned(one.trial.replace(trial=name, session=session), one.image)
