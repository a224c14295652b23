"""Whatever bytes come, decoding gives a picture or an ImageError of one line, in bounded time and memory."""

from __future__ import annotations

import io
import random
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aiflow_cli.errors import ImageError
from aiflow_cli.models.picture import FORMATS, MAX_PIXELS, decode
from tests.conftest import photograph
from tests.models.pictures import encoded, mutated, noise, run_length_bmp, samples, spider, with_orientation

SAMPLES = samples()


@pytest.mark.parametrize("name", SAMPLES)
def test_every_format_and_mode(name: str) -> None:
    """The pixels are those that the library's own conversion gives, but for 16 bits of grey."""
    picture = decode(SAMPLES[name])
    assert picture.format == name.partition(" ")[0]
    if "I;16" not in name:
        with Image.open(io.BytesIO(SAMPLES[name])) as image:
            image.load()
            image.info.pop("transparency", None)
            assert np.array_equal(np.asarray(picture.rgb), np.asarray(image.convert("RGB")))


def test_sixteen_bits_of_grey_are_scaled() -> None:
    """They were all white: the library's conversion clips them at 255."""
    ramp = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    grey = np.asarray(decode(encoded(Image.fromarray(ramp), "PNG")).rgb)
    assert np.array_equal(grey, np.repeat((ramp >> 8).astype(np.uint8)[..., None], 3, axis=2))
    dark = np.asarray(noise("L"))
    assert np.array_equal(
        np.asarray(decode(encoded(noise("I;16"), "PNG")).rgb)[..., 0], np.asarray(noise("RGB"))[..., 0]
    )
    assert dark.min() < 60


def sixteen_bit_colour() -> bytes:
    """A PNG with 16 bits of each colour, which the library reads and cannot write."""
    rows = b"".join(b"\0" + bytes((x, 77) * 3) for x in (0, 100, 200))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (1).to_bytes(4, "big") + (3).to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_sixteen_bits_of_colour_lose_the_same_ones_as_grey() -> None:
    assert np.asarray(decode(sixteen_bit_colour()).rgb)[:, 0, 0].tolist() == [0, 100, 200]


def test_alpha_is_dropped_not_blended() -> None:
    image = Image.new("RGBA", (56, 56), (200, 100, 50, 0))
    assert decode(encoded(image, "PNG")).rgb.getpixel((3, 3)) == (200, 100, 50)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_an_orientation_is_told_and_not_applied(form: str) -> None:
    image = noise("RGB").crop((0, 0, 24, 8))
    turned = decode(encoded(image, form, exif=with_orientation(6)))
    assert (turned.turned, turned.rgb.size) == (True, (24, 8))
    assert not decode(encoded(image, form, exif=with_orientation(1))).turned
    assert not decode(encoded(image, form)).turned


def foreign() -> dict[str, bytes]:
    """A picture in each of the other formats that the library can write, and one that it cannot."""
    Image.init()
    found = {"SPIDER of 108 bytes": spider()}
    for form in sorted(set(Image.SAVE) & set(Image.OPEN) - {*FORMATS, "MPO"}):
        for mode in ("RGB", "L", "1"):
            try:
                found[form] = encoded(noise(mode), form)
                break
            except (OSError, ValueError, KeyError):
                continue
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_formats_are_never_tried() -> None:
    found = foreign()
    assert {"SPIDER of 108 bytes", "TIFF", "PPM", "ICO", "TGA"} <= set(found)
    for form, data in found.items():
        with pytest.raises(ImageError, match="in none of the formats JPEG, PNG, WEBP, BMP, GIF"):
            pytest.fail(f"{form} was decoded: {decode(data)}")


def huge() -> bytes:
    """A PNG whose header claims more pixels than are allowed; it is refused before anything is decoded."""
    return encoded(Image.new("1", (MAX_PIXELS // 1000 + 1, 1000)), "PNG")


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "no image": (lambda: b"GIF? no", "in none of the formats"),
    "truncated": (lambda: photograph()[:900], "truncated"),
    "huge": (huge, "make it smaller"),
    "run lengths of 99 megapixels in 4 bytes": (lambda: run_length_bmp(99_000_000, 1, b"\x01\x05\0\0"), "too large"),
    "run lengths of 99 megapixels in rows": (
        lambda: run_length_bmp(9_900, 10_000, b"\x01\x05\0\0" * 10_000),
        "too large",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images(name: str) -> None:
    make, reason = BAD[name]
    with pytest.raises(ImageError, match=f"x.png.*{reason}") as caught:
        decode(make(), "x.png")
    assert "\n" not in str(caught.value)


SAYS_WHAT_IS_ON_STANDARD_ERROR = """
import sys
from aiflow_cli.models.picture import decode
decode(sys.stdin.buffer.read())
"""


def test_oddities_in_metadata_are_passed_over_in_silence() -> None:
    """The library warns of them, on two lines with its own path, which no switch can turn off in one thread alone."""
    odd = SAMPLES["JPEG progressive"].replace(b"\x01\x12\x00\x03\x00\x00\x00\x01", b"\x01\x12\x00\x03\x00\xff\x00\x01")
    assert odd != SAMPLES["JPEG progressive"]
    done = subprocess.run(
        [sys.executable, "-c", SAYS_WHAT_IS_ON_STANDARD_ERROR], input=odd, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


DECODES_WITH_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from aiflow_cli.errors import ImageError
from aiflow_cli.models.picture import decode
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 100_000_000,) * 2)
try:
    decode(sys.stdin.buffer.read())
except ImageError as error:
    print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_want_of_memory_is_an_image_error() -> None:
    large = encoded(Image.new("RGB", (9_000, 9_000)), "PNG")
    command = [sys.executable, "-c", DECODES_WITH_LITTLE_MEMORY]
    done = subprocess.run(command, input=large, capture_output=True, check=True)
    assert b"not enough memory" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore:::PIL")
def test_ten_thousand_mutated_pictures() -> None:
    chance, names = random.Random(11), list(SAMPLES)
    decoded, slowest_s, said = 0, 0.0, {""}
    before_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for turn in range(10_000):
        data = mutated(SAMPLES[names[turn % len(names)]], SAMPLES[chance.choice(names)], chance)
        began = time.monotonic()
        try:
            decoded += len(decode(data).rgb.getbands()) == 3
        except ImageError as error:
            said.add(str(error))
        slowest_s = max(slowest_s, time.monotonic() - began)
    assert all("\n" not in line and len(line) < 400 for line in said)
    assert 500 < decoded < 9_500  # both ways were gone
    assert slowest_s < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before_bytes < 2_000_000_000
