"""Small pictures in every format and mode that is read, and ways to damage them."""

from __future__ import annotations

import io
import random
import re
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

SIDE = 24


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """The file of an image."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def noise(mode: str, seed: int = 0, side: int = SIDE) -> Image.Image:
    """An image of chance in a mode of the imaging library."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    return Image.fromarray(pixels).convert(mode)


def with_orientation(value: int) -> Image.Exif:
    """EXIF data that ask to turn or mirror a picture."""
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def run_length_bmp(width: int, height: int, body: bytes) -> bytes:
    """A BMP file of 8 bits and run lengths, which the library reads and cannot write."""
    offset = 14 + 40 + 1024
    header = struct.pack("<2sIHHI", b"BM", offset + len(body), 0, 0, offset)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    return header + info + bytes(1024) + body


def spider() -> bytes:
    """108 bytes that the library takes for a picture of the SPIDER format, and then stumbles over."""
    numbers = [0.0] * 27
    for place in (1, 2, 5, 12, 13, 27):
        numbers[place - 1] = 1.0
    for place in (22, 23):
        numbers[place - 1] = 108.0
    return struct.pack(">27f", *numbers)


def samples() -> dict[str, bytes]:
    """Whole files by name: each format in the modes that it knows."""
    exif = with_orientation(6)
    more = [noise("RGB", seed) for seed in (1, 2)]
    found = {f"JPEG {mode}": encoded(noise(mode), "JPEG") for mode in ("L", "RGB", "CMYK")}
    found |= {f"PNG {mode}": encoded(noise(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")}
    found |= {f"BMP {mode}": encoded(noise(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")}
    found |= {f"WEBP {mode}": encoded(noise(mode), "WEBP") for mode in ("RGB", "RGBA")}
    found |= {f"GIF {mode}": encoded(noise(mode), "GIF") for mode in ("1", "L", "P", "RGB")}
    return found | {
        "JPEG progressive": encoded(noise("RGB"), "JPEG", progressive=True, exif=exif),
        "JPEG of several": encoded(noise("RGB"), "MPO", save_all=True, append_images=more),
        "PNG with transparency": encoded(noise("P"), "PNG", transparency=bytes(range(256)), exif=exif),
        "PNG animated": encoded(noise("RGB"), "PNG", save_all=True, append_images=more),
        "WEBP lossless": encoded(noise("RGB"), "WEBP", lossless=True, exif=exif),
        "WEBP animated": encoded(noise("RGB"), "WEBP", save_all=True, append_images=more),
        "GIF animated": encoded(noise("P"), "GIF", save_all=True, append_images=more, transparency=3),
        "BMP run lengths": run_length_bmp(4, 3, b"\x04\x07\0\0\0\x04abcd\0\0\x04\x09\0\x01"),
    }


def mutated(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """`data` with a fault or two; in a PNG the checksums are often made right again, or nothing else would be met."""
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(min(len(damaged), chance.choice((64, len(damaged))))) if damaged else 0
        _damage(damaged, at, other, chance)
    return _checked(bytes(damaged)) if chance.random() < 0.7 else bytes(damaged)


def _damage(data: bytearray, at: int, other: bytes, chance: random.Random) -> None:
    length = chance.choice((1, 2, 4, 40))
    match chance.randrange(7):
        case 0:
            data[at : at + 1] = bytes([data[at] ^ 1 << chance.randrange(8)]) if data else b""
        case 1:
            data[at : at + length] = chance.randbytes(length)
        case 2:
            data[at : at + length] = chance.choice((b"\x00", b"\xff", b"\x7f")) * length
        case 3:
            del data[at : at + length]
        case 4:
            data[at:at] = data[at : at + length] * chance.choice((1, 50))
        case 5:
            del data[at:]
        case _:
            data[at:] = other[chance.randrange(len(other)) :]


def _checked(data: bytes) -> bytes:
    """A PNG's chunks with the checksums of what they hold; other files as they are."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    out, at = bytearray(data), 8
    while match := re.compile(rb"(....)([A-Za-z]{4})", re.DOTALL).match(data, at):
        end = at + 8 + int.from_bytes(match[1], "big")
        if end + 4 > len(data):
            break
        out[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)
