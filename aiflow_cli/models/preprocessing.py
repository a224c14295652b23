"""From image bytes to pixel values, bit for bit as the original code does it.

RGB first (alpha dropped, EXIF orientation not applied), then either one tile, or the grid of tiles whose shape is
nearest to the image's, with a thumbnail last. Source: OpenGVLab/InternVL, `dynamic_preprocess` and `build_transform`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aiflow_cli.models.picture import decode

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Tiling:
    """How an image is cut: the side of a tile in pixels, and the number of tiles allowed (without the thumbnail)."""

    tile: int
    min_tiles: int = 1
    max_tiles: int = 12
    dynamic: bool = True
    thumbnail: bool = True

    @property
    def most(self) -> int:
        """The most tiles that an image can become, thumbnail included."""
        if not self.dynamic:
            return 1
        return self.max_tiles + (1 if self.thumbnail and self.max_tiles > 1 else 0)

    @classmethod
    def from_config(cls, original: dict[str, Any]) -> Tiling:
        """The tiling that a config.json asks for; in transformers' layout it is the default of its processor."""
        side = original.get("force_image_size") or original["vision_config"]["image_size"]
        return cls(
            tile=side if isinstance(side, int) else side[0],
            min_tiles=original.get("min_dynamic_patch", 1),
            max_tiles=original.get("max_dynamic_patch", 12),
            dynamic=original.get("dynamic_image_size", True),
            thumbnail=original.get("use_thumbnail", True),
        )


def choose_grid(width: int, height: int, tiling: Tiling) -> tuple[int, int]:
    """Columns and rows of tiles: the nearest aspect ratio; on a tie the larger if the image fills half of it."""
    products = range(tiling.min_tiles, tiling.max_tiles + 1)
    grids = sorted(
        {(c, n // c) for n in products for c in range(1, n + 1) if n % c == 0}, key=lambda grid: grid[0] * grid[1]
    )
    best, best_difference = (1, 1), float("inf")
    for columns, rows in grids:
        difference = abs(width / height - columns / rows)
        room = 0.5 * tiling.tile**2 * columns * rows
        if difference < best_difference or (difference == best_difference and width * height > room):
            best, best_difference = (columns, rows), difference
    return best


def pixel_values(data: bytes, tiling: Tiling) -> Tensor:
    """Normalised pixels of an encoded image: float32 [tiles, 3, tile, tile]. ImageError if it cannot be decoded.

    Tiles are in order row by row, the thumbnail last if there is more than one.
    """
    image, side = decode(data).rgb, tiling.tile
    columns, rows = choose_grid(*image.size, tiling) if tiling.dynamic else (1, 1)
    large = image.resize((columns * side, rows * side), Image.Resampling.BICUBIC)
    corners = [(c * side, r * side) for r in range(rows) for c in range(columns)]
    tiles = [large.crop((x, y, x + side, y + side)) for x, y in corners]
    if tiling.thumbnail and len(tiles) > 1:
        tiles.append(image.resize((side, side), Image.Resampling.BICUBIC))
    x = torch.from_numpy(np.stack([np.asarray(tile) for tile in tiles])).permute(0, 3, 1, 2).to(torch.float32).div(255)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return x.sub(mean).div(std).contiguous()
