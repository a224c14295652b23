"""One door to all images: `open_images("scenes" | "vehicles-openimage" | a folder | a local data set, count, seed)`."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator

import numpy as np

from aiflow_cli.errors import UsageError
from aiflow_cli.images import vehicles
from aiflow_cli.images.captions import describe
from aiflow_cli.images.drawing import encode_jpeg, render
from aiflow_cli.images.folder import open_path
from aiflow_cli.images.imageset import ImageRecord, ImageSet, build_image_set
from aiflow_cli.images.scenes import scene_at
from aiflow_cli.paths import user_path
from aiflow_cli.units import format_size

__all__ = ["DEFAULT_SCENES", "SCENES", "ImageRecord", "ImageSet", "open_images"]

SCENES = "scenes"
DEFAULT_SCENES = 16
"""How many scenes "all of them" are: the stream has no end."""
MOST_SCENES = 20_000
"""All are drawn before the first trial: these take some four minutes."""
SCENE_S, SCENE_BYTES = 0.012, 20_000
"""Assumption: what drawing a scene takes on one core of a laptop, and its JPEG."""
FIRST_STREAM = 1000
"""Seed 0 shows the scenes of this stream, seed 1 those of the next. The small pair learned from streams below it."""


def open_images(source: str, count: int | None, seed: int) -> ImageSet:
    """The images of `source`, read and decoded once; with `count`, a seeded sample of them.

    Raises UsageError on a source that is not known or empty and a `count` below 1, PrerequisiteError (exit code 3) if
    `vehicles-openimage` is not downloaded, ImageError if an image cannot be read.
    """
    if count is not None and count < 1:
        raise UsageError(f"{count} images were asked for; give 1 or more")
    if source == SCENES:
        return _open_scenes(DEFAULT_SCENES if count is None else count, FIRST_STREAM + seed)
    if source == vehicles.NAME:
        return vehicles.open_vehicles(count, seed)
    if source:
        path = user_path(source)
        try:
            if path.exists():
                return open_path(path, count, seed)
        except OSError as error:
            raise UsageError(f"{path} cannot be opened ({error.strerror}): name another folder") from error
    close = difflib.get_close_matches(source, (SCENES, vehicles.NAME), n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"give `{SCENES}`, `{vehicles.NAME}` or an existing folder"
    raise UsageError(f"no images at `{source}`: it is neither a known source nor a folder; {hint}")


def _open_scenes(count: int, stream: int) -> ImageSet:
    """The first `count` scenes of a stream, each with one reference wording in the column `caption`."""
    if count > MOST_SCENES:
        takes = f"{count * SCENE_S / 3600:,.1f} hours and {format_size(count * SCENE_BYTES)} of memory"
        raise UsageError(f"{count} scenes would take about {takes} before the first trial: give at most {MOST_SCENES}")
    images = build_image_set(SCENES, _scene_records(count, stream))
    captions = [describe(scene_at(stream, index), np.random.default_rng((stream, index, 1))) for index in range(count)]
    return dataclasses.replace(images, dataset=images.dataset.add_column("caption", captions))


def _scene_records(count: int, stream: int) -> Iterator[ImageRecord]:
    """Scenes; the class of each is the kind of its first vehicle."""
    for index in range(count):
        scene = scene_at(stream, index)
        label = scene.vehicles[0].kind.capitalize()
        yield ImageRecord(f"scene-{stream}-{index:05d}", encode_jpeg(render(scene)), label)
