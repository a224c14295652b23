"""Training data: scenes rendered once into memory-mapped arrays, with dense labels for the vision towers.

A view is the picture reduced to the side that a model sees (112 or 56 pixels), as its preprocessing would reduce it
(bicubic). Labels come from the renderer's own mask: which vehicle fills a patch. JPEG is left out: at a quarter of the
size its traces are gone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from aiflow_cli.images import scenes as s
from aiflow_cli.images.captions import describe
from aiflow_cli.images.drawing import render_with_labels

Array = npt.NDArray[np.uint8]

VIEWS = (112, 56)
GRID = 8
"""Patches to a side: 112 / 14, and 56 / 7 for the small view."""
_CELLS = [None, *((column, lane) for column in s.COLUMNS for lane in s.LANES)]
_OF_VEHICLES = {
    "kind": s.KINDS,
    "colour": s.COLOURS,
    "heading": s.HEADINGS,
    "size": s.SIZES,
    "number": (*s.BUS_NUMBERS, None),
}
_OF_SCENES = {
    "place": s.PLACES,
    "weather": s.WEATHERS,
    "time": s.TIMES,
    "trees": range(4),
    "houses": range(3),
    "person": s.SIDES,
    "light": s.LIGHTS,
    "count": range(1, 5),
    "heading_left": range(5),
}
PATCH_FIELDS = {"cell": len(_CELLS)} | {name: len(values) for name, values in _OF_VEHICLES.items()}
"""Classes of each patch label; cell 0 is background, number 4 is no number."""
SCENE_FIELDS = {name: len(values) for name, values in _OF_SCENES.items()}
_SHAPES = {f"view{side}": (side, side, 3) for side in VIEWS} | {
    "patches": (GRID * GRID, len(PATCH_FIELDS)),
    "labels": (len(SCENE_FIELDS),),
}
_CHUNK = 250


@dataclass(frozen=True)
class TrainingData:
    """Scenes `0..count` of the stream `seed`, in files under `folder`."""

    folder: Path
    seed: int
    count: int

    def array(self, name: str, mode: str = "r") -> Array:
        """What `name` says of each scene, memory-mapped, uint8: `view112` and `view56` [count, side, side, 3];
        `patches` [count, 64, 6] in the order of `PATCH_FIELDS`; `labels` [count, 9] in that of `SCENE_FIELDS`."""
        shape, path = (self.count, *_SHAPES[name]), self.folder / f"{name}.u8"
        return np.memmap(path, np.uint8, mode, shape=shape)  # type: ignore[call-overload, no-any-return]

    def view(self, side: int) -> Array:
        """Pictures at `side` pixels."""
        return self.array(f"view{side}")

    def caption(self, index: int, epoch: int = 0) -> str:
        """A wording of scene `index`; each epoch draws its own free words."""
        return describe(s.scene_at(self.seed, index), np.random.default_rng((self.seed, index, 2, epoch)))


def render_training_data(
    data: TrainingData, workers: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> TrainingData:
    """Render the scenes of `data` with `workers` processes; if that is done already, it is kept."""
    done_file, done_text = data.folder / "done.json", json.dumps({"seed": data.seed, "count": data.count})
    if done_file.exists() and done_file.read_text() == done_text:
        return data
    data.folder.mkdir(parents=True, exist_ok=True)
    for name in _SHAPES:
        data.array(name, "w+")
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(_render_chunk, data, start) for start in range(0, data.count, _CHUNK)]
        for done, job in enumerate(jobs, 1):
            job.result()
            progress(min(done * _CHUNK, data.count), data.count)
    done_file.write_text(done_text)
    return data


def _render_chunk(data: TrainingData, start: int) -> None:
    arrays = {name: data.array(name, "r+") for name in _SHAPES}
    for index in range(start, min(start + _CHUNK, data.count)):
        scene = s.scene_at(data.seed, index)
        image, owner = render_with_labels(scene)
        for side in VIEWS:
            arrays[f"view{side}"][index] = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
        arrays["patches"][index] = patch_labels(scene, owner)
        arrays["labels"][index] = scene_labels(scene)


def scene_labels(scene: s.Scene) -> list[int]:
    """Labels of the whole scene in the order of `SCENE_FIELDS`."""
    return [values.index(getattr(scene, name)) for name, values in _OF_SCENES.items()]


def patch_labels(scene: s.Scene, owner: Array) -> Array:
    """Labels of the 8 x 8 patches, row by row, uint8 [64, 6]: the vehicle that fills most of a patch, if 6 % of it."""
    side = owner.shape[0] // GRID
    blocks = owner.reshape(GRID, side, GRID, side).swapaxes(1, 2).reshape(GRID * GRID, -1)
    counts = np.stack([(blocks == k + 1).sum(1) for k in range(len(scene.vehicles))], 1)
    labels = np.zeros((GRID * GRID, len(PATCH_FIELDS)), np.uint8)
    for patch in np.flatnonzero(counts.max(1) > 0.06 * side * side):
        vehicle = scene.vehicles[int(counts[patch].argmax())]
        seen = [values.index(getattr(vehicle, name)) for name, values in _OF_VEHICLES.items()]
        labels[patch] = [_CELLS.index((vehicle.column, vehicle.lane)), *seen]
    return labels
