"""The parts of a scene, each drawn once and kept (RGBA images): vehicles, trees, houses, people, traffic lights, signs."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

PIXELS_PER_UNIT = 416 / 112
"""Vehicle dimensions below are in units of the small pair's view, 112 to the picture's side."""
_OVERSAMPLE = 4

Colour = tuple[int, int, int]

PAINT: dict[str, Colour] = {
    "red": (206, 34, 38),
    "blue": (34, 78, 200),
    "green": (28, 140, 62),
    "yellow": (246, 210, 36),
    "white": (242, 242, 242),
    "black": (28, 28, 32),
    "orange": (246, 132, 24),
}
_TINT = {"day": 1.0, "dusk": 0.86, "night": 0.66}
_GLASS: Colour = (176, 214, 236)
_TYRE: Colour = (18, 18, 20)


class _Pen:
    """Draws in units from the lower left corner of a body, on an oversampled canvas, with the light of the time of day."""

    def __init__(self, width: float, height: float, scale: float, tint: float) -> None:
        self.unit = scale * PIXELS_PER_UNIT * _OVERSAMPLE
        self.tint = tint
        self.width, self.height = width, height
        self.image = Image.new("RGBA", (round(width * self.unit), round(height * self.unit)), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.image)

    def xy(self, *points: float) -> list[float]:
        return [p * self.unit if i % 2 == 0 else (self.height - p) * self.unit for i, p in enumerate(points)]

    def colour(self, colour: Colour, lit: bool = False) -> Colour:
        tint = 1.0 if lit else self.tint
        return int(colour[0] * tint), int(colour[1] * tint), int(colour[2] * min(1.0, tint * 1.06))

    def box(
        self, x0: float, y0: float, x1: float, y1: float, colour: Colour, radius: float = 0, lit: bool = False
    ) -> None:
        self.draw.rounded_rectangle(self.xy(x0, y1, x1, y0), radius * self.unit, fill=self.colour(colour, lit))

    def shape(self, colour: Colour, *points: float) -> None:
        self.draw.polygon(self.xy(*points), fill=self.colour(colour))

    def disc(self, x: float, y: float, radius: float, colour: Colour, lit: bool = False) -> None:
        cx, cy = self.xy(x, y)
        r = radius * self.unit
        self.draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=self.colour(colour, lit))

    def line(self, colour: Colour, width: float, *points: float) -> None:
        self.draw.line(self.xy(*points), fill=self.colour(colour), width=max(1, round(width * self.unit)))

    def wheel(self, x: float, radius: float) -> None:
        self.disc(x, radius, radius, _TYRE)
        self.disc(x, radius, radius * 0.5, (150, 150, 156))

    def finish(self) -> Image.Image:
        """What was drawn, at its size in the picture."""
        size = self.image.width // _OVERSAMPLE, self.image.height // _OVERSAMPLE
        return self.image.resize(size, Image.Resampling.BOX)


def _darker(colour: Colour, by: float = 0.72) -> Colour:
    return int(colour[0] * by), int(colour[1] * by), int(colour[2] * by)


def _lamps(pen: _Pen, front: float, back: float, y: float, size: float) -> None:
    pen.box(front - size, y, front, y + size, (255, 244, 150), lit=True)
    pen.box(back, y, back + size, y + size, (232, 20, 20), lit=True)


def _car(pen: _Pen, paint: Colour) -> None:
    pen.shape(_darker(paint, 0.9), 4, 7.5, 8.5, 13.5, 19, 13.5, 24.5, 7.5)
    pen.shape(_GLASS, 6.5, 8, 9.6, 12.4, 13.2, 12.4, 13.2, 8)
    pen.shape(_GLASS, 14.4, 8, 14.4, 12.4, 18.2, 12.4, 22.4, 8)
    pen.box(0.4, 2.6, 31.6, 8.4, paint, 2)
    pen.shape(paint, 22, 8.3, 31, 7.4, 31, 5, 22, 5)
    _lamps(pen, 31.8, 0.2, 5, 2.4)
    pen.wheel(7.5, 3.4)
    pen.wheel(24.5, 3.4)


def _bus(pen: _Pen, paint: Colour) -> None:
    pen.box(0.4, 2.4, 39.6, 21.8, paint, 1.6)
    pen.box(0.4, 19.6, 39.6, 21.8, _darker(paint), 1.2)
    for x, width in ((2, 4.4), (7.4, 4.4), (25.6, 4), (30.6, 4)):
        pen.box(x, 12, x + width, 18.4, _GLASS, 0.5)
    pen.shape(_GLASS, 36, 8, 36, 19, 39.5, 18, 39.5, 8)
    _lamps(pen, 39.8, 0.2, 4, 2.6)
    pen.wheel(8, 3.3)
    pen.wheel(31, 3.3)


def _truck(pen: _Pen, paint: Colour) -> None:
    pen.box(0.4, 5, 25.6, 20.8, _darker(paint, 0.84), 0.6)
    for x in (6, 12, 18):
        pen.line(_darker(paint, 0.62), 0.8, x, 6, x, 20)
    pen.box(0.4, 3.2, 38, 5.6, (60, 60, 64))
    pen.shape(paint, 27, 3.4, 27, 17, 34, 17, 39.6, 10, 39.6, 3.4)
    pen.shape(_GLASS, 30, 10.4, 30, 15.6, 33.6, 15.6, 37.4, 10.4)
    _lamps(pen, 39.8, 0.2, 4.2, 2.6)
    for x in (6, 13, 33):
        pen.wheel(x, 3.4)


def _ambulance(pen: _Pen, paint: Colour) -> None:
    pen.box(0.4, 3, 23, 18, paint, 1)
    pen.shape(paint, 22, 3, 22, 15.6, 27, 15.6, 33.6, 9, 33.6, 3)
    pen.shape(_GLASS, 24, 9.2, 24, 14.4, 26.8, 14.4, 31.2, 9.2)
    stripe: Colour = (250, 250, 250) if paint == PAINT["red"] else (214, 24, 40)
    pen.box(0.4, 5.4, 33.4, 7.2, stripe)
    pen.box(10.4, 9, 13.2, 16.6, stripe)
    pen.box(8, 11.4, 15.6, 14.2, stripe)
    pen.box(17, 18, 22, 20, (40, 110, 255), 0.6, lit=True)
    _lamps(pen, 33.8, 0.2, 3.8, 2.4)
    pen.wheel(7, 3.3)
    pen.wheel(27, 3.3)


def _motorcycle(pen: _Pen, paint: Colour) -> None:
    pen.wheel(4.4, 4.2)
    pen.wheel(17.6, 4.2)
    pen.shape(paint, 2.6, 7, 6, 9, 14.6, 9.4, 16.4, 6, 9, 4)
    pen.line((120, 120, 126), 1.1, 17.6, 4.4, 14.6, 11)
    pen.line((30, 30, 34), 1.1, 14.2, 11, 16.6, 11.6)
    pen.shape((52, 56, 70), 6.4, 8.6, 10.2, 8.6, 12.6, 13, 9.4, 13.4)
    pen.line((52, 56, 70), 1.6, 11, 12.4, 14.8, 10.8)
    pen.disc(11.6, 14, 1.9, paint)
    _lamps(pen, 18.8, 1.8, 8, 2.2)


_VEHICLES = {
    "ambulance": (34, 20, _ambulance),
    "bus": (40, 22, _bus),
    "car": (32, 14, _car),
    "motorcycle": (22, 16, _motorcycle),
    "truck": (40, 21, _truck),
}
"""Kind -> width and height in units, and who draws it."""


@lru_cache(maxsize=4096)
def vehicle_sprite(kind: str, colour: str, heading: str, scale: float, number: int | None, time: str) -> Image.Image:
    """One vehicle as RGBA; `scale` 1 is a near vehicle of middle size."""
    width, height, paint = _VEHICLES[kind]
    pen = _Pen(width, height, scale, _TINT[time])
    paint(pen, PAINT[colour])
    if heading == "left":
        pen.image = pen.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pen.draw = ImageDraw.Draw(pen.image)
    if number is not None:
        _number_plate(pen, 13 if heading == "right" else width - 13 - 11, str(number))
    return pen.finish()


def _number_plate(pen: _Pen, x: float, number: str) -> None:
    pen.box(x, 6.4, x + 11, 19.2, (255, 255, 255), 0.8, lit=True)
    font, stroke = ImageFont.load_default(size=13.5 * pen.unit), round(0.5 * pen.unit)
    ink = (10, 10, 10)
    middle_x, middle_y = pen.xy(x + 5.5, 12.9)
    pen.draw.text((middle_x, middle_y), number, ink, font, "mm", stroke_width=stroke, stroke_fill=ink)


class Look(NamedTuple):
    """What a thing beside the road looks like: which of its variants, in what weather and light."""

    variant: int
    weather: str = "sunny"
    time: str = "day"


def _tree(pen: _Pen, look: Look) -> None:
    leaf = (216, 226, 228) if look.weather == "snowy" else ((44, 120, 48), (62, 138, 40), (30, 100, 60))[look.variant]
    pen.box(7, 0, 9.4, 10, (98, 66, 40))
    if look.variant == 2:
        for base, half in ((6, 7.4), (12, 6), (18, 4.4)):
            pen.shape(leaf, 8.2 - half, base, 8.2 + half, base, 8.2, base + 10)
    else:
        for x, y, r in ((5, 13, 4.8), (11.4, 13, 4.6), (8.2, 18.4, 6.4)):
            pen.disc(x, y, r, leaf)
        r, g, b = (min(255, c + 22) for c in leaf)
        pen.disc(6.6, 19.6, 2.8, (r, g, b))


def _house(pen: _Pen, look: Look) -> None:
    """With a roof, a door, and two windows that are lit when the day is over."""
    lit = look.time != "day"
    pen.box(1.6, 0, 18.4, 14.6, ((222, 196, 160), (206, 130, 104), (190, 202, 214))[look.variant])
    pen.shape((136, 52, 42), 0, 14.2, 10, 25, 20, 14.2)
    for x in (3.4, 12.4):
        pen.box(x, 7.4, x + 4.2, 12, (255, 226, 120) if lit else (120, 160, 190), lit=lit)
    pen.box(8.2, 0, 11.8, 6.6, (92, 60, 40))


def _person(pen: _Pen, look: Look) -> None:
    coat = ((180, 40, 130), (240, 150, 60), (50, 160, 170), (120, 90, 200))[look.variant]
    pen.box(2.4, 0, 4.2, 8.6, (40, 44, 60))
    pen.box(4.8, 0, 6.6, 8.6, (40, 44, 60))
    pen.box(1.4, 7.8, 7.6, 17.8, coat, 1.4)
    pen.disc(4.5, 20.4, 2.8, (232, 188, 156))
    pen.box(1.9, 21, 7.1, 23.6, (62, 42, 30), 1.2)


def _light(pen: _Pen, look: Look) -> None:
    """A traffic light on its pole: variant 1 is red, 2 green."""
    pen.box(3, 0, 4.2, 22, (74, 74, 78))
    pen.box(0.4, 20, 6.6, 35.6, (30, 30, 32), 1.2)
    pen.disc(3.5, 31.6, 2.7, (255, 40, 30) if look.variant == 1 else (76, 24, 22), lit=True)
    pen.disc(3.5, 24.4, 2.7, (50, 240, 90) if look.variant == 2 else (20, 66, 30), lit=True)


def _sign(pen: _Pen, look: Look) -> None:
    """A road sign on the pavement: a distractor, of which no caption speaks."""
    pen.box(3.5, 0, 4.5, 8, (130, 130, 134))
    if look.variant == 0:
        pen.disc(4, 9, 3.6, (200, 30, 30))
        pen.disc(4, 9, 2.4, (246, 246, 246))
    elif look.variant == 1:
        pen.shape((246, 200, 40), 0.4, 5.8, 7.6, 5.8, 4, 12.6)
    else:
        pen.box(0.8, 5.4, 7.2, 12.2, (36, 90, 190), 0.8)


_DECOR = {
    "tree": (16, 28, 0.92, 0, _tree),
    "house": (20, 26, 0.92, 0, _house),
    "person": (9, 24, 1.0, 0.8, _person),
    "light": (7, 36, 1.0, 1.0, _light),
    "sign": (8, 13, 1.0, 0.75, _sign),
}
"""Thing -> width and height in units, scale, the least light it is seen in, and who draws it."""


@lru_cache(maxsize=256)
def decor_sprite(thing: str, look: Look) -> Image.Image:
    """What stands beside the road, as RGBA: a tree, house, person, (traffic) light or sign."""
    width, height, scale, least_light, paint = _DECOR[thing]
    pen = _Pen(width, height, scale, max(_TINT[look.time], least_light))
    paint(pen, look)
    return pen.finish()
