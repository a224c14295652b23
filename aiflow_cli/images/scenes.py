"""Rendered vehicle scenes: what a scene holds, and how one is drawn by lot.

A scene is a road seen from the pavement with two lanes and three columns, so that a vehicle stands in one of six cells.
Two vehicles in one column overlap in the picture: the near one hides part of the far one. Everything a caption can say
(`images/captions.py`) is a field here; the drawing is in `images/drawing.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PLACES = ("street", "highway", "country road", "harbour", "car park")
WEATHERS = ("sunny", "cloudy", "rainy", "snowy", "foggy")
TIMES = ("day", "dusk", "night")
KINDS = ("ambulance", "bus", "car", "motorcycle", "truck")
COLOURS = ("red", "blue", "green", "yellow", "white", "black", "orange")
AMBULANCE_COLOURS = ("white", "yellow", "red")
HEADINGS = ("left", "right")
SIZES = ("small", "large")
COLUMNS = ("left", "middle", "right")
LANES = ("near", "far")
SIDES = ("none", "left", "right")
LIGHTS = ("none", "red", "green")
BUS_NUMBERS = (1, 2, 4, 7)
"""Numbers that can be told apart when a bus is some twenty pixels wide."""

_VEHICLE_COUNT_SHARES = (0.27, 0.38, 0.25, 0.10)
_TALL = ("ambulance", "bus", "truck")


@dataclass(frozen=True)
class Vehicle:
    """One vehicle: its cell (column, lane) and what it looks like; `number` is a bus's line, None for others."""

    column: str
    lane: str
    kind: str
    colour: str
    heading: str
    size: str
    number: int | None = None


@dataclass(frozen=True)
class Scene:
    """Everything a caption can say of a picture. `vehicles` run from left to right, near before far."""

    place: str
    weather: str
    time: str
    trees: int
    houses: int
    person: str
    light: str
    vehicles: tuple[Vehicle, ...]
    decor_seed: int

    @property
    def count(self) -> int:
        """How many vehicles there are."""
        return len(self.vehicles)

    @property
    def heading_left(self) -> int:
        """How many vehicles head left."""
        return sum(vehicle.heading == "left" for vehicle in self.vehicles)


def scene_at(seed: int, index: int) -> Scene:
    """The `index`-th scene of the stream `seed`; each is independent of the others, so any part can be made alone."""
    rng = np.random.default_rng((seed, index))
    count = int(rng.choice(4, p=_VEHICLE_COUNT_SHARES)) + 1
    cells = sorted(rng.choice(6, size=count, replace=False).tolist())
    vehicles: list[Vehicle] = []
    for cell in cells:
        column, lane = COLUMNS[cell // 2], LANES[cell % 2]
        in_front = vehicles[-1] if vehicles and vehicles[-1].column == column else None
        hides = lane == "near" and cell + 1 in cells
        vehicles.append(_sample_vehicle(rng, column, lane, in_front, hides))
    return Scene(
        place=str(rng.choice(PLACES)),
        weather=str(rng.choice(WEATHERS)),
        time=str(rng.choice(TIMES)),
        trees=int(rng.integers(0, 4)),
        houses=int(rng.integers(0, 3)),
        person=str(rng.choice(SIDES, p=(0.4, 0.3, 0.3))),
        light=str(rng.choice(LIGHTS, p=(0.4, 0.3, 0.3))),
        vehicles=tuple(vehicles),
        decor_seed=int(rng.integers(0, 2**31)),
    )


def _sample_vehicle(rng: np.random.Generator, column: str, lane: str, in_front: Vehicle | None, hides: bool) -> Vehicle:
    # A low vehicle behind a tall one would be hidden whole, and so would any behind a large tall one.
    behind_tall = in_front is not None and in_front.kind in _TALL
    kind = str(rng.choice(_TALL if behind_tall else KINDS))
    size = str(rng.choice(SIZES))
    if hides and kind in _TALL:
        size = "small"
    elif behind_tall:
        size = "large"
    colour = str(rng.choice(AMBULANCE_COLOURS if kind == "ambulance" else COLOURS))
    heading = str(rng.choice(HEADINGS))
    number = int(rng.choice(BUS_NUMBERS)) if kind == "bus" else None
    return Vehicle(column, lane, kind, colour, heading, size, number)
