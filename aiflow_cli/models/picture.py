"""The one place where a picture is decoded: bytes of a stranger in, RGB pixels or an ImageError out.

Five formats are tried and no other: the imaging library knows some forty, and a decoder that nobody uses is one that
nobody has tried with hostile bytes. The original code calls the library's `convert("RGB")` on whatever it opens; beside
it
- 16 bits of grey become 8 by their upper byte, as the library does it for 16 bits of colour. There `convert` clips
  them, and the picture is white: here we differ on purpose.
- An orientation in the EXIF data is not applied, neither there nor here, neither on the device nor on the server;
  `turned` says that there is one.
"""

from __future__ import annotations

import io
import warnings
from typing import NamedTuple

import numpy as np
from PIL import (  # the plugins of our formats: whatever is imported is known to Image.open
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from aiflow_cli.errors import ImageError
from aiflow_cli.text import one_line

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif")
"""Of files in these formats, in lower case."""
MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded."""
MAX_RUN_LENGTH_PIXELS = 4_000_000
"""The library expands run lengths of BMP files in Python: 100 million pixels, from a few bytes, would take it 12 s."""
_ORIENTATION, _UPRIGHT = 0x0112, 1

# Both once, here: a switch that is thrown around a call is thrown for all threads, and another's reset undoes it.
Image.MAX_IMAGE_PIXELS = None  # our own limit stands in its place; the library's warns first
warnings.filterwarnings("ignore", module=r"PIL\.")  # of oddities in metadata that nobody here reads


class Picture(NamedTuple):
    """RGB pixels (alpha dropped, the first frame), the file's format, and whether EXIF data ask to turn them."""

    rgb: Image.Image
    format: str
    turned: bool


def decode(data: bytes, name: str = "the picture") -> Picture:
    """The picture in `data`. ImageError, with `name`, if it is empty, too large, damaged or not of `FORMATS`."""
    if not data:
        raise ImageError(f"{name} is empty (0 bytes): replace or remove the file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            run_lengths = any("rle" in str(tile[0]) for tile in getattr(image, "tile", ()))
            most = MAX_RUN_LENGTH_PIXELS if run_lengths else MAX_PIXELS
            if image.width * image.height > most:
                size = f"{image.width} x {image.height} pixels, at most {most:,}"
                raise ImageError(f"{name} is too large to decode safely ({size}): make it smaller")
            return Picture(_as_rgb(image), "JPEG" if image.format == "MPO" else str(image.format), _is_turned(image))
    except ImageError:
        raise
    except Exception as error:  # the decoders raise whatever their parsing runs into: a list of it would never be whole
        match error:
            case UnidentifiedImageError():
                reason = f"its {len(data)} bytes are in none of the formats {', '.join(FORMATS)}"
            case MemoryError():
                reason = "there is not enough memory for its pixels"
            case _:
                said = str(error).split("<_io")[0].strip() or type(error).__name__
                reason = f"truncated or damaged: {one_line(said)}"
        raise ImageError(f"{name} cannot be read as an image ({reason}): replace or remove the file") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    image.load()
    image.info.pop("transparency", None)  # dropped anyway, and the library would look for a place for it
    if image.mode.startswith("I"):  # "I;16", "I;16B" or "I": 16 bits of grey
        image = Image.fromarray((np.asarray(image).clip(0, 0xFFFF) >> 8).astype(np.uint8))
    return image.convert("RGB")


def _is_turned(image: Image.Image) -> bool:
    try:
        return bool(image.getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT)
    except Exception:  # EXIF data are a format of their own, and a picture may be whole where they are not
        return False
