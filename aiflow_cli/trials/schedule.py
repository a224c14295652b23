"""The order of the trials: blocks by image, all settings of a block in seeded random order, so that drift hits all alike."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aiflow_cli.trials.settings import Setting


@dataclass(frozen=True)
class Slot:
    """One trial to be run. `block`: one image, once through all settings; `order`: the place within its block."""

    block: int
    order: int
    repeat: int
    image_index: int
    setting: Setting

    @property
    def trial(self) -> str:
        """A name of the trial that is unique within a run."""
        return f"{self.block:04d}-{self.order:03d}-{self.setting.label}"


def schedule(n_images: int, settings: Sequence[Setting], repeats: int, seed: int) -> Iterator[Slot]:
    """Every image with every setting, `repeats` times. The order of a block depends on seed and block alone."""
    for repeat in range(repeats):
        for image_index in range(n_images):
            block = repeat * n_images + image_index
            order = list(settings)
            random.Random(f"{seed}/{block}").shuffle(order)
            for place, setting in enumerate(order):
                yield Slot(block, place, repeat, image_index, setting)
