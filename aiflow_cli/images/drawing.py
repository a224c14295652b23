"""Drawing a scene: 416 x 416 RGB, the size of the photographs of Vehicles-OpenImage, and its JPEG.

Vehicles are drawn once at four times their size, reduced, and kept; the ground, the sky and the film grain are arrays. `render` gives the
picture; `render_with_labels` also which vehicle each pixel belongs to, from which the vision towers learn (`training/`).
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from aiflow_cli.images.scenes import Scene, Vehicle
from aiflow_cli.images.sprites import draw_house, draw_light, draw_person, draw_sign, draw_tree, vehicle_sprite

SIDE = 416
JPEG_QUALITY = 84

Array = npt.NDArray[np.uint8]

COLUMN_X = {"left": 0.175, "middle": 0.5, "right": 0.825}
LANE_BOTTOM = {"near": 0.885, "far": 0.75}
LANE_SCALE = {"near": 1.0, "far": 0.76}
SIZE_SCALE = {"small": 0.8, "large": 1.16}
_HORIZON = 0.40
_KERB_BACK, _KERB_FRONT = 0.60, 0.91
_DECOR_X = (0.06, 0.25, 0.42, 0.60, 0.77, 0.94)
_DECOR_BASE = 0.595

_SKY = {
    ("sunny", "day"): ((92, 160, 232), (190, 222, 248)),
    ("cloudy", "day"): ((150, 160, 172), (206, 212, 218)),
    ("rainy", "day"): ((104, 114, 128), (158, 166, 176)),
    ("snowy", "day"): ((176, 186, 200), (226, 232, 240)),
    ("foggy", "day"): ((190, 194, 196), (214, 216, 216)),
}
_DUSK = ((84, 62, 104), (238, 150, 92))
_NIGHT = ((8, 10, 30), (34, 38, 70))
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
    order = sorted(range(len(scene.vehicles)), key=lambda i: scene.vehicles[i].lane == "near")
    for index in order:
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
    top, low = {"day": _SKY[weather, "day"], "dusk": _DUSK, "night": _NIGHT}[time]
    picture = np.zeros((SIDE, SIDE, 3), np.float32)
    horizon = int(_HORIZON * SIDE)
    blend = np.linspace(0, 1, horizon, dtype=np.float32)[:, None, None]
    if weather in ("rainy", "foggy", "snowy") and time == "dusk":
        top, low = (96, 84, 104), (190, 142, 120)
    picture[:horizon] = np.array(top) * (1 - blend) + np.array(low) * blend
    tint = np.array(_LIGHT_OF_DAY[time], np.float32)
    behind, road = (np.array(colour, np.float32) * tint for colour in _GROUND[place])
    if weather == "snowy":
        behind, road = behind * 0.35 + 232 * tint * 0.65, road * 0.72 + 220 * tint * 0.28
    if weather == "rainy":
        road = road * 0.72
    picture[horizon : int(_KERB_BACK * SIDE)] = behind
    picture[int(_KERB_BACK * SIDE) : int(_KERB_FRONT * SIDE)] = road
    front = np.array((150, 146, 140) if place != "country road" else (104, 132, 70), np.float32) * tint
    picture[int(_KERB_FRONT * SIDE) :] = front if weather != "snowy" else front * 0.4 + 230 * tint * 0.6
    image = Image.fromarray(picture.astype(np.uint8))
    _mark_place(ImageDraw.Draw(image), place, tint)
    _mark_sky(ImageDraw.Draw(image), weather, time)
    return np.asarray(image)


def _shade(colour: tuple[int, int, int], tint: npt.NDArray[np.float32]) -> tuple[int, int, int]:
    r, g, b = (int(c * t) for c, t in zip(colour, tint, strict=True))
    return r, g, b


def _mark_place(draw: ImageDraw.ImageDraw, place: str, tint: npt.NDArray[np.float32]) -> None:  # noqa: PLR0912
    back, front, horizon = int(_KERB_BACK * SIDE), int(_KERB_FRONT * SIDE), int(_HORIZON * SIDE)
    white, dark = _shade((232, 232, 224), tint), _shade((70, 70, 74), tint)
    middle = int(0.765 * SIDE)
    if place in ("street", "highway"):
        for x in range(-10, SIDE, 60):
            draw.rectangle((x, middle, x + 32, middle + 4), fill=white)
    if place == "street":
        for x in range(-30, SIDE, 70):
            draw.rectangle((x, horizon - 54 - (x * 37 % 40), x + 64, horizon + 6), fill=_shade((118, 108, 108), tint))
            for wy in range(horizon - 44, horizon - 6, 16):
                for wx in range(x + 8, x + 58, 16):
                    draw.rectangle((wx, wy, wx + 7, wy + 8), fill=_shade((208, 190, 120), tint))
        draw.rectangle((0, back - 8, SIDE, back), fill=_shade((206, 202, 196), tint))
    elif place == "highway":
        for y, colour in ((back - 18, (198, 202, 206)), (back - 10, (150, 154, 160))):
            draw.rectangle((0, y, SIDE, y + 5), fill=_shade(colour, tint))
        for x in range(6, SIDE, 36):
            draw.rectangle((x, back - 22, x + 4, back), fill=dark)
        draw.rectangle((0, back, SIDE, back + 4), fill=_shade((238, 208, 72), tint))
    elif place == "country road":
        for x in range(-60, SIDE, 150):
            draw.ellipse((x, horizon - 34, x + 240, horizon + 60), fill=_shade((84, 128, 60), tint))
        for x in range(0, SIDE, 26):
            draw.rectangle((x, back - 16, x + 4, back), fill=_shade((120, 86, 54), tint))
        draw.rectangle((0, back - 12, SIDE, back - 9), fill=_shade((120, 86, 54), tint))
    elif place == "harbour":
        for y in range(horizon + 8, back - 14, 12):
            for x in range((y * 7) % 40 - 40, SIDE, 62):
                draw.line((x, y, x + 26, y), fill=_shade((140, 186, 208), tint), width=2)
        for x in (70, 250):
            draw.polygon(
                ((x, back - 46), (x + 90, back - 46), (x + 76, back - 28), (x + 14, back - 28)),
                fill=_shade((156, 60, 50), tint),
            )
            draw.rectangle((x + 30, back - 64, x + 62, back - 46), fill=_shade((226, 224, 216), tint))
        draw.rectangle((0, back - 10, SIDE, back), fill=_shade((88, 84, 80), tint))
    else:
        for x in range(12, SIDE, 65):
            draw.line((x, back + 4, x - 14, front), fill=white, width=4)
        draw.rectangle((0, back - 14, SIDE, back - 4), fill=_shade((90, 128, 74), tint))


def _mark_sky(draw: ImageDraw.ImageDraw, weather: str, time: str) -> None:
    if time == "night":
        if weather == "sunny":
            draw.ellipse((330, 18, 372, 60), fill=(236, 232, 200))
        for k in range(46 if weather == "sunny" else 0):
            x, y = (k * 97) % SIDE, (k * 53) % 130
            draw.ellipse((x, y, x + 2, y + 2), fill=(230, 230, 240))
    elif weather == "sunny":
        draw.ellipse((318, 16, 376, 74), fill=(255, 226, 110) if time == "day" else (255, 160, 70))
    if weather in ("cloudy", "rainy"):
        shade = {"day": 226, "dusk": 150, "night": 66}[time] - (70 if weather == "rainy" and time == "day" else 0)
        for x, y, w in ((20, 24, 120), (150, 10, 140), (290, 34, 110), (90, 62, 100), (230, 66, 120)):
            for dx, dy, r in ((0, 10, 0.3), (0.3, 0, 0.42), (0.62, 8, 0.34)):
                draw.ellipse((x + dx * w, y + dy, x + (dx + r) * w, y + dy + 26), fill=(shade, shade, shade + 8))


def _paste_decor(canvas: Image.Image, scene: Scene, rng: np.random.Generator) -> None:
    spots = list(rng.permutation(len(_DECOR_X))[: scene.trees + scene.houses])
    items = ["house"] * scene.houses + ["tree"] * scene.trees
    night = scene.time
    for item, spot in zip(items, spots, strict=True):
        sprite = (
            draw_house(int(rng.integers(3)), night)
            if item == "house"
            else draw_tree(int(rng.integers(3)), scene.weather, night)
        )
        _paste_at(canvas, sprite, _DECOR_X[spot] + float(rng.uniform(-0.01, 0.01)), _DECOR_BASE)
    if scene.light != "none":
        _paste_at(canvas, draw_light(scene.light), float(rng.choice((0.335, 0.665))), _KERB_BACK + 0.01)


def _paste_foreground(canvas: Image.Image, scene: Scene, rng: np.random.Generator) -> None:
    if scene.person != "none":
        x = {"left": 0.05, "right": 0.95}[scene.person] + float(rng.uniform(-0.012, 0.012))
        _paste_at(canvas, draw_person(int(rng.integers(4)), scene.time), x, 0.985)
    if rng.random() < 0.4:
        _paste_at(canvas, draw_sign(int(rng.integers(3)), scene.time), float(rng.uniform(0.3, 0.7)), 0.998)


def _paste_at(canvas: Image.Image, sprite: Image.Image, x: float, bottom: float) -> None:
    left, top = round(x * SIDE - sprite.width / 2), round(bottom * SIDE) - sprite.height
    canvas.paste(sprite, (left, top), sprite)


def _paste_vehicle(canvas: Image.Image, owner: Image.Image, scene: Scene, index: int, rng: np.random.Generator) -> None:
    vehicle = scene.vehicles[index]
    scale = LANE_SCALE[vehicle.lane] * SIZE_SCALE[vehicle.size]
    sprite = vehicle_sprite(vehicle.kind, vehicle.colour, vehicle.heading, round(scale, 3), vehicle.number, scene.time)
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
    """Rain streaks or snow flakes as a mask twice the picture's size, of which a random part is used: uint8 [832, 832]."""
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
