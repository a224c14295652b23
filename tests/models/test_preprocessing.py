"""Pixels and tilings bit for bit as the original code makes them."""

from __future__ import annotations

import hashlib

import pytest
import torch

from aiflow_cli.models.preprocessing import Tiling, choose_grid, pixel_values
from tests.models import fixtures
from tests.models.fixtures import PICTURES

BOUNDARIES = [
    (633, 633, (1, 1)),
    (634, 634, (2, 2)),
    (951, 951, (3, 3)),
    (634, 1268, (2, 4)),
    (300, 212, (4, 3)),
    (500, 286, (3, 2)),
]
"""Where the factor 0.5, the strict comparison and plain (not logarithmic) ratios matter; 448 pixels, 12 tiles."""


@fixtures.needed
@pytest.mark.parametrize("name", PICTURES)
def test_pixels(name: str) -> None:
    expected = fixtures.document("preprocess")["images"][name]
    pixels = pixel_values(fixtures.picture(name), Tiling(tile=56))
    assert list(pixels.shape) == expected["shape"]
    assert torch.equal(pixels, fixtures.tensors("preprocess")[f"pixel_values.{name}"])
    assert hashlib.sha256(pixels.numpy().tobytes()).hexdigest() == expected["sha256_float32"]


@fixtures.needed
@pytest.mark.parametrize("name", PICTURES)
def test_pixels_of_full_size_tiles(name: str) -> None:
    expected = fixtures.document("preprocess")["at_448"][name]
    pixels = pixel_values(fixtures.picture(name), Tiling(tile=448))
    assert pixels.flatten()[:8].tolist() == expected["first8"]
    assert hashlib.sha256(pixels.numpy().tobytes()).hexdigest() == expected["sha256_float32"]


@fixtures.needed
def test_tilings() -> None:
    rows = fixtures.document("preprocess")["tilings"]["rows"]
    assert len(rows) == 112
    for side, most, width, height, columns, grid_rows, tiles in rows:
        grid = choose_grid(width, height, Tiling(tile=side, max_tiles=most))
        assert grid == (columns, grid_rows), (side, most, width, height)
        assert columns * grid_rows + (columns * grid_rows > 1) == tiles


@pytest.mark.parametrize(("width", "height", "grid"), BOUNDARIES)
def test_tilings_at_the_boundaries(width: int, height: int, grid: tuple[int, int]) -> None:
    assert choose_grid(width, height, Tiling(tile=448)) == grid


def test_tiling_of_a_configuration() -> None:
    original = {"vision_config": {"image_size": 448}, "max_dynamic_patch": 6, "use_thumbnail": False}
    assert Tiling.from_config(original) == Tiling(tile=448, max_tiles=6, thumbnail=False)
    assert Tiling.from_config(original | {"force_image_size": 224}).tile == 224
