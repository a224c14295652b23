"""The parts of a scene as RGBA images, each drawn once and kept: vehicles, and what stands beside the road.

Their shapes are in `sprites.toml`, which also says what its words mean.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from PIL import Image, ImageDraw, ImageFont

PIXELS_PER_UNIT = 416 / 112
"""A unit of the art is a pixel of the small pair's view, 112 to the picture's side."""
_OVERSAMPLE = 4
_TINT = {"day": 1.0, "dusk": 0.86, "night": 0.66}
_INK = (10, 10, 10)

Colours = Mapping[str, Sequence[int]]
"""Red, green and blue by name."""


@cache
def read_art(name: str) -> dict[str, Any]:
    """The drawings of NAME.toml beside this file."""
    return tomllib.loads((resources.files("aiflow_cli.images") / f"{name}.toml").read_text("utf-8"))


class _Pen:
    """Draws a piece of art in units from the lower left corner, on a canvas that is reduced in the end.

    `colours` are added to those of the art; `light` is that of the time of day, which dims all that is not lit.
    """

    def __init__(self, art: dict[str, Any], scale: float, light: float, colours: Colours) -> None:
        self.width, self.height = art["size"]
        self.unit = scale * PIXELS_PER_UNIT * _OVERSAMPLE
        self.image = Image.new("RGBA", (round(self.width * self.unit), round(self.height * self.unit)), (0, 0, 0, 0))
        self._light, self._colours = light, read_art("sprites")["colours"] | colours
        self._draw = ImageDraw.Draw(self.image)
        for shape in art["shapes"]:
            self.draw(*shape)

    def draw(self, shape: str, colour: str, *numbers: float) -> None:
        """One shape of the art."""
        fill, unit = self._fill(colour), self.unit
        match shape, numbers:
            case "box", (x0, y0, x1, y1, *radius):
                self._draw.rounded_rectangle(self._xy(x0, y1, x1, y0), sum(radius) * unit, fill)
            case "disc", (x, y, r):
                cx, cy = self._xy(x, y)
                self._draw.ellipse((cx - r * unit, cy - r * unit, cx + r * unit, cy + r * unit), fill)
            case "polygon", points:
                self._draw.polygon(self._xy(*points), fill)
            case "line", (width, *points):
                self._draw.line(self._xy(*points), fill, max(1, round(width * unit)))
            case "wheel", (x, radius):
                self.draw("disc", colour, x, radius, radius)
                self.draw("disc", "hub", x, radius, radius * 0.5)

    def _xy(self, *points: float) -> list[float]:
        return [p * self.unit if i % 2 == 0 else (self.height - p) * self.unit for i, p in enumerate(points)]

    def _fill(self, colour: str) -> tuple[int, int, int]:
        lit, name = colour.startswith("lit "), colour.removeprefix("lit ")
        name, _, darker = name.partition("*")
        name, _, lighter = name.partition("+")
        r, g, b = (min(255, int(c * float(darker or 1)) + int(lighter or 0)) for c in self._colours[name])
        light = 1.0 if lit else self._light
        return int(r * light), int(g * light), int(b * min(1.0, light * 1.06))

    def turn(self) -> None:
        """Have what was drawn look to the left."""
        self.image = self.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        self._draw = ImageDraw.Draw(self.image)

    def number_plate(self, x: float, number: int) -> None:
        """The line of a bus, black on white."""
        self.draw("box", "lit white", x, 6.4, x + 11, 19.2, 0.8)
        font, stroke = ImageFont.load_default(size=13.5 * self.unit), round(0.5 * self.unit)
        middle_x, middle_y = self._xy(x + 5.5, 12.9)
        where = (middle_x, middle_y)
        self._draw.text(where, str(number), _INK, font, "mm", stroke_width=stroke, stroke_fill=_INK)

    def finish(self) -> Image.Image:
        """What was drawn, at its size in the picture."""
        size = self.image.width // _OVERSAMPLE, self.image.height // _OVERSAMPLE
        return self.image.resize(size, Image.Resampling.BOX)


@lru_cache(maxsize=4096)
def vehicle_sprite(kind: str, colour: str, heading: str, scale: float, number: int | None, time: str) -> Image.Image:
    """One vehicle; `scale` 1 is a near vehicle of middle size."""
    art = read_art("sprites")
    colours = {"paint": art["paint"][colour], "stripe": (250, 250, 250) if colour == "red" else (214, 24, 40)}
    pen = _Pen(art[kind], scale, _TINT[time], colours)
    if heading == "left":
        pen.turn()
    if number is not None:
        pen.number_plate(13 if heading == "right" else pen.width - 13 - 11, number)
    return pen.finish()


@lru_cache(maxsize=256)
def decor_sprite(thing: str, variant: int, weather: str = "sunny", time: str = "day") -> Image.Image:
    """A tree (white in snow), house (its windows lit when the day is over), person, traffic-light or sign."""
    art = read_art("sprites").get(f"{thing}-{variant}") or read_art("sprites")[thing]
    colours = {name: choice[variant] for name, choice in art.get("variants", {}).items()}
    colours["window"] = (120, 160, 190) if time == "day" else (255, 226, 120)
    if weather == "snowy":
        colours["leaf"] = (216, 226, 228)
    return _Pen(art, art.get("scale", 1.0), max(_TINT[time], art.get("least-light", 0)), colours).finish()
