"""Drawing a scene: 416 x 416 RGB, the size of the photographs of Vehicles-OpenImage, and its JPEG.

Vehicles are drawn once at four times their size, reduced, and kept; the ground, the sky and the film grain are arrays.
`render` gives the picture; `render_with_labels` also which vehicle each pixel belongs to, from which the vision towers
learn (`training/`).
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from aiflow_cli.images.scenes import LIGHTS, Scene, Vehicle
from aiflow_cli.images.sprites import Colour, decor_sprite, vehicle_sprite

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

_SKY_BY_DAY = {
    "sunny": ((92, 160, 232), (190, 222, 248)),
    "cloudy": ((150, 160, 172), (206, 212, 218)),
    "rainy": ((104, 114, 128), (158, 166, 176)),
    "snowy": ((176, 186, 200), (226, 232, 240)),
    "foggy": ((190, 194, 196), (214, 216, 216)),
}
_DUSK, _PALE_DUSK = ((84, 62, 104), (238, 150, 92)), ((96, 84, 104), (190, 142, 120))
_NIGHT = ((8, 10, 30), (34, 38, 70))
_SHADE_OF_CLOUDS = {"day": 226, "dusk": 150, "night": 66}
_GROUND = {
    "street": ((168, 160, 150), (84, 84, 88)),
    "highway": ((122, 146, 92), (70, 72, 76)),
    "country road": ((96, 142, 62), (146, 124, 96)),
    "harbour": ((64, 112, 146), (122, 118, 114)),
    "car park": ((150, 150, 146), (104, 104, 110)),
}
"""(what lies behind the road, the road)."""
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
    picture = np.zeros((SIDE, SIDE, 3), np.float32)
    blend = np.linspace(0, 1, _HORIZON, dtype=np.float32)[:, None, None]
    top, low = _sky(weather, time)
    picture[:_HORIZON] = np.array(top) * (1 - blend) + np.array(low) * blend
    tint = np.array(_LIGHT_OF_DAY[time], np.float32)
    behind, road = (np.array(colour, np.float32) * tint for colour in _GROUND[place])
    front = np.array((150, 146, 140) if place != "country road" else (104, 132, 70), np.float32) * tint
    if weather == "snowy":
        behind, road = behind * 0.35 + 232 * tint * 0.65, road * 0.72 + 220 * tint * 0.28
        front = front * 0.4 + 230 * tint * 0.6
    if weather == "rainy":
        road = road * 0.72
    picture[_HORIZON:_BACK], picture[_BACK:_FRONT], picture[_FRONT:] = behind, road, front
    image = Image.fromarray(picture.astype(np.uint8))
    _PLACES[place](_Brush(image, tint))
    _draw_sky(ImageDraw.Draw(image), weather, time)
    return np.asarray(image)


def _sky(weather: str, time: str) -> tuple[Colour, Colour]:
    """Colours at the top and at the horizon."""
    dusk = _PALE_DUSK if weather in ("rainy", "foggy", "snowy") else _DUSK
    return {"day": _SKY_BY_DAY[weather], "dusk": dusk, "night": _NIGHT}[time]


class _Brush:
    """Draws in pixels on the backdrop, in colours under the light of the time of day."""

    def __init__(self, image: Image.Image, tint: npt.NDArray[np.float32]) -> None:
        self.draw, self._tint = ImageDraw.Draw(image), tint

    def shade(self, colour: Colour) -> Colour:
        r, g, b = (int(c * t) for c, t in zip(colour, self._tint, strict=True))
        return r, g, b

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        self.draw.rectangle((x0, y0, x1, y1), fill=self.shade(colour))


_WHITE: Colour = (232, 232, 224)


def _lane_marks(brush: _Brush) -> None:
    middle = int(0.765 * SIDE)
    for x in range(-10, SIDE, 60):
        brush.box(x, middle, x + 32, middle + 4, _WHITE)


def _street(brush: _Brush) -> None:
    _lane_marks(brush)
    for x in range(-30, SIDE, 70):
        brush.box(x, _HORIZON - 54 - (x * 37 % 40), x + 64, _HORIZON + 6, (118, 108, 108))
        for y in range(_HORIZON - 44, _HORIZON - 6, 16):
            for window in range(x + 8, x + 58, 16):
                brush.box(window, y, window + 7, y + 8, (208, 190, 120))
    brush.box(0, _BACK - 8, SIDE, _BACK, (206, 202, 196))


def _highway(brush: _Brush) -> None:
    _lane_marks(brush)
    brush.box(0, _BACK - 18, SIDE, _BACK - 13, (198, 202, 206))
    brush.box(0, _BACK - 10, SIDE, _BACK - 5, (150, 154, 160))
    for x in range(6, SIDE, 36):
        brush.box(x, _BACK - 22, x + 4, _BACK, (70, 70, 74))
    brush.box(0, _BACK, SIDE, _BACK + 4, (238, 208, 72))


def _country_road(brush: _Brush) -> None:
    for x in range(-60, SIDE, 150):
        brush.draw.ellipse((x, _HORIZON - 34, x + 240, _HORIZON + 60), fill=brush.shade((84, 128, 60)))
    for x in range(0, SIDE, 26):
        brush.box(x, _BACK - 16, x + 4, _BACK, (120, 86, 54))
    brush.box(0, _BACK - 12, SIDE, _BACK - 9, (120, 86, 54))


def _harbour(brush: _Brush) -> None:
    for y in range(_HORIZON + 8, _BACK - 14, 12):
        for x in range((y * 7) % 40 - 40, SIDE, 62):
            brush.draw.line((x, y, x + 26, y), fill=brush.shade((140, 186, 208)), width=2)
    for x in (70, 250):
        hull = ((x, _BACK - 46), (x + 90, _BACK - 46), (x + 76, _BACK - 28), (x + 14, _BACK - 28))
        brush.draw.polygon(hull, fill=brush.shade((156, 60, 50)))
        brush.box(x + 30, _BACK - 64, x + 62, _BACK - 46, (226, 224, 216))
    brush.box(0, _BACK - 10, SIDE, _BACK, (88, 84, 80))


def _car_park(brush: _Brush) -> None:
    for x in range(12, SIDE, 65):
        brush.draw.line((x, _BACK + 4, x - 14, _FRONT), fill=brush.shade(_WHITE), width=4)
    brush.box(0, _BACK - 14, SIDE, _BACK - 4, (90, 128, 74))


_PLACES = {
    "street": _street,
    "highway": _highway,
    "country road": _country_road,
    "harbour": _harbour,
    "car park": _car_park,
}


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
        _paste_at(canvas, sprite, _DECOR_X[spot] + float(rng.uniform(-0.01, 0.01)), _DECOR_BASE)
    if scene.light != "none":
        light = decor_sprite("traffic-light", LIGHTS.index(scene.light))
        _paste_at(canvas, light, float(rng.choice((0.335, 0.665))), _KERB_BACK + 0.01)


def _paste_foreground(canvas: Image.Image, scene: Scene, rng: np.random.Generator) -> None:
    if scene.person != "none":
        x = {"left": 0.05, "right": 0.95}[scene.person] + float(rng.uniform(-0.012, 0.012))
        _paste_at(canvas, decor_sprite("person", int(rng.integers(4)), time=scene.time), x, 0.985)
    if rng.random() < 0.4:
        sign = decor_sprite("sign", int(rng.integers(3)), time=scene.time)
        _paste_at(canvas, sign, float(rng.uniform(0.3, 0.7)), 0.998)


def _paste_at(canvas: Image.Image, sprite: Image.Image, x: float, bottom: float) -> None:
    left, top = round(x * SIDE - sprite.width / 2), round(bottom * SIDE) - sprite.height
    canvas.paste(sprite, (left, top), sprite)


def _paste_vehicle(canvas: Image.Image, owner: Image.Image, scene: Scene, index: int, rng: np.random.Generator) -> None:
    vehicle = scene.vehicles[index]
    scale = round(LANE_SCALE[vehicle.lane] * SIZE_SCALE[vehicle.size], 3)
    sprite = vehicle_sprite(vehicle.kind, vehicle.colour, vehicle.heading, scale, vehicle.number, scene.time)
    shift = _behind_shift(scene, vehicle) + float(rng.uniform(-0.018, 0.018))
    left = round((COLUMN_X[vehicle.column] + shift) * SIDE - sprite.width / 2)
    top = round((LANE_BOTTOM[vehicle.lane] + float(rng.uniform(-0.008, 0.008))) * SIDE) - sprite.height
    canvas.paste(sprite, (left, top), sprite)
    owner.paste(index + 1, (left, top), sprite.getchannel("A").point(lambda a: 255 if a > 127 else 0))


def _behind_shift(scene: Scene, vehicle: Vehicle) -> float:
    """A far vehicle behind a near one is drawn a little towards the middle, so that it peeps out."""
    behind = vehicle.lane == "far" and any(v.column == vehicle.column and v.lane == "near" for v in scene.vehicles)
    return {"left": 0.045, "middle": 0.045, "right": -0.045}[vehicle.column] if behind else 0.0


@lru_cache(maxsize=4)
def _grain(sigma: float) -> npt.NDArray[np.int16]:
    noise = np.random.default_rng(7).normal(0, sigma, (2 * SIDE, 2 * SIDE)).astype(np.int16)
    noise.setflags(write=False)
    return noise


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
    result += _grain(4.5)[dy : dy + SIDE, dx : dx + SIDE, None]
    return np.clip(result, 0, 255).astype(np.uint8)
