"""Pixels and tilings bit for bit as the original code makes them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import pytest
import torch
from PIL import Image

from aiflow_cli.errors import ImageError
from aiflow_cli.models.preprocessing import MAX_PIXELS, Tiling, choose_grid, load_image, pixel_values
from tests.conftest import photograph
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
"""Where the factor 0.5, the strict comparison and plain (not logarithmic) ratios make the difference; at 448 pixels, 12 tiles."""


@fixtures.needed
@pytest.mark.parametrize("name", PICTURES)
def test_pixels(name: str) -> None:
    expected = fixtures.document("preprocess")["images"][name]
    pixels = pixel_values(load_image(fixtures.picture(name)), Tiling(tile=56))
    assert list(pixels.shape) == expected["shape"]
    assert torch.equal(pixels, fixtures.tensors("preprocess")[f"pixel_values.{name}"])
    assert hashlib.sha256(pixels.numpy().tobytes()).hexdigest() == expected["sha256_float32"]


@fixtures.needed
@pytest.mark.parametrize("name", PICTURES)
def test_pixels_of_full_size_tiles(name: str) -> None:
    expected = fixtures.document("preprocess")["at_448"][name]
    pixels = pixel_values(load_image(fixtures.picture(name)), Tiling(tile=448))
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


def test_alpha_is_dropped_not_blended() -> None:
    image = Image.new("RGBA", (56, 56), (200, 100, 50, 0))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert load_image(buffer.getvalue()).getpixel((3, 3)) == (200, 100, 50)


def test_tiling_of_a_configuration() -> None:
    original = {"vision_config": {"image_size": 448}, "max_dynamic_patch": 6, "use_thumbnail": False}
    assert Tiling.from_config(original) == Tiling(tile=448, max_tiles=6, thumbnail=False)
    assert Tiling.from_config(original | {"force_image_size": 224}).tile == 224


def huge() -> bytes:
    """A PNG whose header claims more pixels than are allowed; it is refused before anything is decoded."""
    buffer = io.BytesIO()
    Image.new("1", (MAX_PIXELS // 1000 + 1, 1000)).save(buffer, "PNG")
    return buffer.getvalue()


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "no image": (lambda: b"GIF? no", "no known format"),
    "truncated": (lambda: photograph()[:900], "truncated"),
    "huge": (huge, "make it smaller"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images(name: str) -> None:
    make, reason = BAD[name]
    with pytest.raises(ImageError, match=reason):
        load_image(make())
