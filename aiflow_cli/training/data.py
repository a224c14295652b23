"""Training data: scenes rendered once into memory-mapped arrays, with dense labels for the vision towers.

A view is the picture reduced to the side that a model sees (112 or 56 pixels), as its preprocessing would reduce it (bicubic). Labels come
from the renderer's own mask: which vehicle fills a patch. JPEG is left out: at a quarter of the size its traces are gone.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from aiflow_cli.images import scenes as s
from aiflow_cli.images.captions import describe
from aiflow_cli.images.drawing import render_with_labels

VIEWS = (112, 56)
GRID = 8
"""Patches to a side: 112 / 14, and 56 / 7 for the small view."""
PATCH_FIELDS = {"cell": 7, "kind": 5, "colour": 7, "heading": 2, "size": 2, "number": 5}
"""Classes of each patch label; cell 0 is background, number 4 is no number."""
SCENE_FIELDS = {
    "place": 5,
    "weather": 5,
    "time": 3,
    "trees": 4,
    "houses": 3,
    "person": 3,
    "light": 3,
    "count": 4,
    "heading_left": 5,
}
_CHUNK = 250


@dataclass(frozen=True)
class TrainingData:
    """Scenes `0..n` of the stream `seed`: `views[side]` uint8 [n, side, side, 3], `patches` uint8 [n, 64, 6], `labels` uint8 [n, 9]."""

    folder: Path
    seed: int
    count: int

    def view(self, side: int) -> npt.NDArray[np.uint8]:
        """Pictures at `side` pixels, memory-mapped."""
        return self._open(f"view{side}", (side, side, 3), "r")

    @property
    def patches(self) -> npt.NDArray[np.uint8]:
        """Patch labels in the order of `PATCH_FIELDS`."""
        return self._open("patches", (GRID * GRID, len(PATCH_FIELDS)), "r")

    @property
    def labels(self) -> npt.NDArray[np.uint8]:
        """Scene labels in the order of `SCENE_FIELDS`."""
        return self._open("labels", (len(SCENE_FIELDS),), "r")

    def _open(self, name: str, shape: tuple[int, ...], mode: str) -> npt.NDArray[np.uint8]:
        path = self.folder / f"{name}.u8"
        return np.memmap(path, np.uint8, mode, shape=(self.count, *shape))  # type: ignore[call-overload, no-any-return]

    def caption(self, index: int, epoch: int = 0) -> str:
        """A wording of scene `index`; each epoch draws its own free words."""
        return describe(s.scene_at(self.seed, index), np.random.default_rng((self.seed, index, 2, epoch)))

    @property
    def done_file(self) -> Path:
        """Written when all chunks are."""
        return self.folder / "done.json"


def render_training_data(folder: Path, seed: int, count: int, workers: int, progress: object = None) -> TrainingData:
    """Render `count` scenes of stream `seed` into `folder` with `workers` processes; done work is kept."""
    data = TrainingData(folder, seed, count)
    if data.done_file.exists() and json.loads(data.done_file.read_text()) == {"seed": seed, "count": count}:
        return data
    folder.mkdir(parents=True, exist_ok=True)
    for side in VIEWS:
        data._open(f"view{side}", (side, side, 3), "w+")
    data._open("patches", (GRID * GRID, len(PATCH_FIELDS)), "w+")
    data._open("labels", (len(SCENE_FIELDS),), "w+")
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(_render_chunk, data, start) for start in range(0, count, _CHUNK)]
        for done, job in enumerate(jobs, 1):
            job.result()
            if callable(progress):
                progress(min(done * _CHUNK, count), count)
    data.done_file.write_text(json.dumps({"seed": seed, "count": count}))
    return data


def _render_chunk(data: TrainingData, start: int) -> None:
    views = {side: data._open(f"view{side}", (side, side, 3), "r+") for side in VIEWS}
    patches = data._open("patches", (GRID * GRID, len(PATCH_FIELDS)), "r+")
    labels = data._open("labels", (len(SCENE_FIELDS),), "r+")
    for index in range(start, min(start + _CHUNK, data.count)):
        scene = s.scene_at(data.seed, index)
        image, owner = render_with_labels(scene)
        for side, view in views.items():
            view[index] = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
        patches[index] = patch_labels(scene, owner)
        labels[index] = scene_labels(scene)


def patch_labels(scene: s.Scene, owner: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Labels of the 8 x 8 patches, row by row: the vehicle that fills most of a patch, if it fills 6 % of it. uint8 [64, 6]."""
    side = owner.shape[0] // GRID
    blocks = owner.reshape(GRID, side, GRID, side).swapaxes(1, 2).reshape(GRID * GRID, -1)
    counts = np.stack([(blocks == k + 1).sum(1) for k in range(len(scene.vehicles))], 1)
    labels = np.zeros((GRID * GRID, len(PATCH_FIELDS)), np.uint8)
    for patch in np.flatnonzero(counts.max(1) > 0.06 * side * side):
        labels[patch] = _vehicle_labels(scene.vehicles[int(counts[patch].argmax())])
    return labels


def _vehicle_labels(v: s.Vehicle) -> tuple[int, ...]:
    cell = 1 + s.COLUMNS.index(v.column) * 2 + s.LANES.index(v.lane)
    number = s.BUS_NUMBERS.index(v.number) if v.number is not None else 4
    return (
        cell,
        s.KINDS.index(v.kind),
        s.COLOURS.index(v.colour),
        s.HEADINGS.index(v.heading),
        s.SIZES.index(v.size),
        number,
    )


def scene_labels(scene: s.Scene) -> tuple[int, ...]:
    """Labels of the whole scene in the order of `SCENE_FIELDS`."""
    return (
        s.PLACES.index(scene.place),
        s.WEATHERS.index(scene.weather),
        s.TIMES.index(scene.time),
        scene.trees,
        scene.houses,
        s.SIDES.index(scene.person),
        s.LIGHTS.index(scene.light),
        len(scene.vehicles) - 1,
        scene.heading_left,
    )
