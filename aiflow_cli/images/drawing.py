"""Drawing a scene: 416 x 416 RGB, the size of the photographs of Vehicles-OpenImage, and its JPEG.

Vehicles are drawn once at four times their size, reduced, and kept; the ground, the sky and the film grain are arrays.
`render` gives the picture; `render_with_labels` also which vehicle each pixel belongs to, from which the vision towers
learn (`training/`).
"""

from __future__ import annotations

import io
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from aiflow_cli.images.scenes import LIGHTS, Scene
from aiflow_cli.images.sprites import decor_sprite, read_art, vehicle_sprite

SIDE = 416
JPEG_QUALITY = 84

Array = npt.NDArray[np.uint8]

COLUMN_X = {"left": 0.175, "middle": 0.5, "right": 0.825}
LANE_BOTTOM = {"near": 0.885, "far": 0.75}
LANE_SCALE = {"near": 1.0, "far": 0.76}
SIZE_SCALE = {"small": 0.8, "large": 1.16}
_KERB_BACK = 0.60
_HORIZON, _BACK, _FRONT = int(0.40 * SIDE), int(_KERB_BACK * SIDE), int(0.91 * SIDE)
_DECOR_X = (0.06, 0.25, 0.42, 0.60, 0.77, 0.94)
_DECOR_BASE = 0.595

_SHADE_OF_CLOUDS = {"day": 226, "dusk": 150, "night": 66}
_LIGHT_OF_DAY = {"day": (1.0, 1.0, 1.0), "dusk": (0.86, 0.70, 0.66), "night": (0.42, 0.44, 0.60)}


def render(scene: Scene) -> Image.Image:
    """The picture of `scene`: RGB, 416 x 416."""
    return render_with_labels(scene)[0]


def render_with_labels(scene: Scene) -> tuple[Image.Image, Array]:
    """The picture and, for each of its pixels, 1 + the index of the vehicle seen there, or 0: uint8 [416, 416]."""
    rng = np.random.default_rng(scene.decor_seed)
    canvas = Image.fromarray(_backdrop(scene.place, scene.weather, scene.time)).copy()
    owner = Image.new("L", canvas.size, 0)
    _paste_decor(canvas, scene, rng)
    for lane in ("far", "near"):
        for index, vehicle in enumerate(scene.vehicles):
            if vehicle.lane == lane:
                _paste_vehicle(canvas, owner, scene, index, rng)
    _paste_foreground(canvas, scene, rng)
    return Image.fromarray(_weather(np.asarray(canvas), scene, rng)), np.asarray(owner)


def encode_jpeg(image: Image.Image) -> bytes:
    """JPEG bytes of a rendered scene; the film grain brings them to the size of the real photographs (20 to 60 KB)."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


@lru_cache(maxsize=128)
def _backdrop(place: str, weather: str, time: str) -> Array:
    art, tint = read_art("backdrops")["places"][place], np.array(_LIGHT_OF_DAY[time], np.float32)
    behind, road, front = (np.array(art[part], np.float32) * tint for part in ("behind", "road", "front"))
    if weather == "snowy":
        behind, road = behind * 0.35 + 232 * tint * 0.65, road * 0.72 + 220 * tint * 0.28
        front = front * 0.4 + 230 * tint * 0.6
    if weather == "rainy":
        road = road * 0.72
    picture = np.zeros((SIDE, SIDE, 3), np.float32)
    picture[_HORIZON:_BACK], picture[_BACK:_FRONT], picture[_FRONT:] = behind, road, front
    pale = time == "dusk" and weather in ("rainy", "foggy", "snowy")
    top, low = np.array(read_art("backdrops")["sky"]["pale-dusk" if pale else weather if time == "day" else time])
    blend = np.linspace(0, 1, _HORIZON, dtype=np.float32)[:, None, None]
    picture[:_HORIZON] = top * (1 - blend) + low * blend
    image = Image.fromarray(picture.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for kind, step, colour, *points in art["shapes"]:
        method, _, width = kind.partition("-")
        fill = tuple(int(c * t) for c, t in zip(colour, tint, strict=True))
        for shift in range(0, SIDE - points[0], step or 2 * SIDE):  # as often as it goes into the picture
            at = [p if i % 2 else p + shift for i, p in enumerate(points)]
            getattr(draw, method)(at, fill, *([int(width)] if width else []))
    _draw_sky(draw, weather, time)
    return np.asarray(image)


def _draw_sky(draw: ImageDraw.ImageDraw, weather: str, time: str) -> None:
    if weather == "sunny" and time == "night":
        draw.ellipse((330, 18, 372, 60), fill=(236, 232, 200))
        for k in range(46):
            x, y = (k * 97) % SIDE, (k * 53) % 130
            draw.ellipse((x, y, x + 2, y + 2), fill=(230, 230, 240))
    elif weather == "sunny":
        draw.ellipse((318, 16, 376, 74), fill=(255, 226, 110) if time == "day" else (255, 160, 70))
    elif weather in ("cloudy", "rainy"):
        shade = _SHADE_OF_CLOUDS[time] - (70 if weather == "rainy" and time == "day" else 0)
        for x, y, w in ((20, 24, 120), (150, 10, 140), (290, 34, 110), (90, 62, 100), (230, 66, 120)):
            for dx, dy, r in ((0, 10, 0.3), (0.3, 0, 0.42), (0.62, 8, 0.34)):
                draw.ellipse((x + dx * w, y + dy, x + (dx + r) * w, y + dy + 26), fill=(shade, shade, shade + 8))


def _paste_decor(canvas: Image.Image, scene: Scene, rng: np.random.Generator) -> None:
    items = ["house"] * scene.houses + ["tree"] * scene.trees
    spots = rng.permutation(len(_DECOR_X))[: len(items)]
    for item, spot in zip(items, spots, strict=True):
        sprite = decor_sprite(item, int(rng.integers(3)), scene.weather, scene.time)
        _paste(canvas, sprite, _DECOR_X[spot] + float(rng.uniform(-0.01, 0.01)), _DECOR_BASE)
    if scene.light != "none":
        light = decor_sprite("traffic-light", LIGHTS.index(scene.light))
        _paste(canvas, light, float(rng.choice((0.335, 0.665))), _KERB_BACK + 0.01)


def _paste_foreground(canvas: Image.Image, scene: Scene, rng: np.random.Generator) -> None:
    if scene.person != "none":
        x = {"left": 0.05, "right": 0.95}[scene.person] + float(rng.uniform(-0.012, 0.012))
        _paste(canvas, decor_sprite("person", int(rng.integers(4)), time=scene.time), x, 0.985)
    if rng.random() < 0.4:
        sign = decor_sprite("sign", int(rng.integers(3)), time=scene.time)
        _paste(canvas, sign, float(rng.uniform(0.3, 0.7)), 0.998)


def _paste_vehicle(canvas: Image.Image, owner: Image.Image, scene: Scene, index: int, rng: np.random.Generator) -> None:
    vehicle = scene.vehicles[index]
    scale = round(LANE_SCALE[vehicle.lane] * SIZE_SCALE[vehicle.size], 3)
    sprite = vehicle_sprite(vehicle.kind, vehicle.colour, vehicle.heading, scale, vehicle.number, scene.time)
    shift = 0.0
    if vehicle.lane == "far" and any(v.column == vehicle.column and v.lane == "near" for v in scene.vehicles):
        shift = -0.045 if vehicle.column == "right" else 0.045  # towards the middle, so that it peeps out
    x = COLUMN_X[vehicle.column] + (shift + float(rng.uniform(-0.018, 0.018)))
    where = _paste(canvas, sprite, x, LANE_BOTTOM[vehicle.lane] + float(rng.uniform(-0.008, 0.008)))
    owner.paste(index + 1, where, sprite.getchannel("A").point(lambda a: 255 if a > 127 else 0))


def _paste(canvas: Image.Image, sprite: Image.Image, x: float, bottom: float) -> tuple[int, int]:
    """Stand a sprite on `bottom`, its middle at `x`, both in shares of the side; where its upper left corner is."""
    where = round(x * SIDE - sprite.width / 2), round(bottom * SIDE) - sprite.height
    canvas.paste(sprite, where, sprite)
    return where


@cache
def _grain() -> npt.NDArray[np.int16]:
    return np.random.default_rng(7).normal(0, 4.5, (2 * SIDE, 2 * SIDE)).astype(np.int16)


@lru_cache(maxsize=2)
def _flakes(kind: str) -> Array:
    """Streaks of rain or flakes of snow, uint8 [832, 832]: twice the picture's size, a random part of which is used."""
    rng = np.random.default_rng(11)
    mask = Image.new("L", (2 * SIDE, 2 * SIDE), 0)
    draw = ImageDraw.Draw(mask)
    for x, y in rng.integers(0, 2 * SIDE, (1500 if kind == "rainy" else 1800, 2)):
        if kind == "rainy":
            draw.line((x, y, x - 5, y + 20), fill=120, width=1)
        else:
            r = int(rng.integers(1, 4))
            draw.ellipse((x, y, x + r, y + r), fill=230)
    return np.asarray(mask.filter(ImageFilter.GaussianBlur(0.6)))


def _weather(picture: Array, scene: Scene, rng: np.random.Generator) -> Array:
    result = picture.astype(np.int16)
    dx, dy = rng.integers(0, SIDE, 2)
    if scene.weather in ("rainy", "snowy"):
        mask = _flakes(scene.weather)[dy : dy + SIDE, dx : dx + SIDE, None].astype(np.int16)
        result += (mask * (225 - result)) >> 8
    if scene.weather == "foggy":
        fog = {"day": 212, "dusk": 168, "night": 84}[scene.time]
        weight = (150 - (np.arange(SIDE, dtype=np.int16) * 92 // SIDE))[:, None, None]
        result += (weight * (fog - result)) >> 8
    result += _grain()[dy : dy + SIDE, dx : dx + SIDE, None]
    return np.clip(result, 0, 255).astype(np.uint8)
