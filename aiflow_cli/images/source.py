"""One door to all images: `open_images("scenes" | "vehicles-openimage" | a folder | a local data set, count, seed)`."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from aiflow_cli.errors import UsageError
from aiflow_cli.images import vehicles
from aiflow_cli.images.folder import open_path
from aiflow_cli.images.imageset import ImageRecord, ImageSet, build_image_set
from aiflow_cli.paths import user_path
from aiflow_cli.units import format_size

if TYPE_CHECKING:
    from datasets import Dataset

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
    if found:
        return open_path(path, count, seed)
    raise UsageError(_unknown(source))


def _open_scenes(count: int | None, seed: int) -> ImageSet:
    from aiflow_cli.images.scenes import scene_dataset

    count = DEFAULT_SCENES if count is None else count
    if count < 1:
        raise UsageError(f"{count} images were asked for; give 1 or more")
    if count > MOST_SCENES:
        takes = f"{count * SCENE_S / 3600:,.1f} hours and {format_size(count * SCENE_BYTES)} of memory"
        raise UsageError(f"{count} scenes would take about {takes} before the first trial: give at most {MOST_SCENES}")
    dataset: Dataset = scene_dataset(FIRST_STREAM + seed, count)
    return build_image_set(SCENES, _with_common_columns(dataset))


def _with_common_columns(dataset: Dataset) -> Dataset:
    from datasets import Image, Value

    if "split" not in dataset.column_names:
        dataset = dataset.add_column("split", [None] * len(dataset), feature=Value("string"))
    if "image" not in dataset.column_names:
        images = [{"bytes": data, "path": None} for data in dataset["bytes"]]
        dataset = dataset.add_column("image", images, feature=Image())
    return dataset


def _unknown(source: str) -> str:
    names = (SCENES, vehicles.NAME)
    close = difflib.get_close_matches(source, names, n=1)
    hint = (
        f"did you mean `{close[0]}`?"
        if close
        else f"give {', '.join(f'`{name}`' for name in names)} or an existing folder"
    )
    return f"no images at `{source}`: it is neither a known source nor a folder; {hint}"
