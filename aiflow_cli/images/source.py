"""One door to all images: `open_images("scenes" | "vehicles-openimage" | a folder | a local data set, count, seed)`."""

from __future__ import annotations

import difflib

import numpy as np

from aiflow_cli.errors import UsageError
from aiflow_cli.images import vehicles
from aiflow_cli.images.captions import describe
from aiflow_cli.images.drawing import encode_jpeg, render
from aiflow_cli.images.folder import open_path
from aiflow_cli.images.imageset import ImageRecord, ImageSet, build_image_set, dataset_of
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

    Raises UsageError on a source that is not known or empty, PrerequisiteError (exit code 3) if `vehicles-openimage`
    is not downloaded, ImageError if an image cannot be read.
    """
    if source == SCENES:
        return _open_scenes(count, seed)
    if source == vehicles.NAME:
        return vehicles.open_vehicles(count, seed)
    if not source:
        raise UsageError(_unknown(source))
    path = user_path(source)
    try:
        found = path.exists()
    except OSError as error:
        raise UsageError(f"{path} cannot be opened ({error.strerror}): name another folder") from error
    if not found:
        raise UsageError(_unknown(source))
    return open_path(path, count, seed)


def _open_scenes(count: int | None, seed: int) -> ImageSet:
    """The first `count` scenes of a stream, each with one reference wording in the column `caption`."""
    count = DEFAULT_SCENES if count is None else count
    if count < 1:
        raise UsageError(f"{count} images were asked for; give 1 or more")
    if count > MOST_SCENES:
        takes = f"{count * SCENE_S / 3600:,.1f} hours and {format_size(count * SCENE_BYTES)} of memory"
        raise UsageError(f"{count} scenes would take about {takes} before the first trial: give at most {MOST_SCENES}")
    stream = FIRST_STREAM + seed
    dataset = dataset_of(_scene_record(stream, index) for index in range(count))
    captions = [describe(scene_at(stream, index), np.random.default_rng((stream, index, 1))) for index in range(count)]
    return build_image_set(SCENES, dataset.add_column("caption", captions))


def _scene_record(stream: int, index: int) -> ImageRecord:
    """One scene; its class is the kind of its first vehicle."""
    scene = scene_at(stream, index)
    return ImageRecord(f"scene-{stream}-{index:05d}", encode_jpeg(render(scene)), scene.vehicles[0].kind.capitalize())


def _unknown(source: str) -> str:
    close = difflib.get_close_matches(source, (SCENES, vehicles.NAME), n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"give `{SCENES}`, `{vehicles.NAME}` or an existing folder"
    return f"no images at `{source}`: it is neither a known source nor a folder; {hint}"
