"""Captions of rendered scenes: a grammar with free wording, and its reader.

The order of what is said is fixed and everything is said, so that a caption can be marked slot by slot. The wording is free: where
people would use one word or another, the grammar draws one at random, and nobody can predict which (two honest models choose
differently there). With merged punctuation a caption has some 35 to 60 tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from aiflow_cli.images.scenes import (
    BUS_NUMBERS,
    COLOURS,
    COLUMNS,
    KINDS,
    LANES,
    PLACES,
    SIZES,
    TIMES,
    WEATHERS,
    Scene,
    Vehicle,
)

NUMBERS = ("no", "one", "two", "three", "four")
_WITH = ("with", "showing")
_VERBS = (("heads", "heading"), ("drives", "driving"), ("moves", "moving"))
_HIDES = ("hiding", "covering")
_NUMBER = ("number", "line")
_PERSON = ("A person", "Someone", "A pedestrian")
_NOBODY = ("Nobody", "No one")
_WAITS = ("waits", "stands")
_FACING = ("Facing", "Pointing")


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """One caption of `scene`, its free words drawn from `rng`."""
    sentences = [_opening(scene, rng)]
    by_column = [[v for v in scene.vehicles if v.column == column] for column in COLUMNS]
    sentences += [_column_sentence(vehicles, rng) for vehicles in by_column if vehicles]
    sentences += [_person_sentence(scene.person, rng), _light_sentence(scene.light), _left_sentence(scene, rng)]
    return " ".join(sentences)


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def _opening(scene: Scene, rng: np.random.Generator) -> str:
    trees = f"{NUMBERS[scene.trees]} {'tree' if scene.trees == 1 else 'trees'}"
    houses = f"{NUMBERS[scene.houses]} {'house' if scene.houses == 1 else 'houses'}"
    when = {"day": "by day", "dusk": "at dusk", "night": "at night"}[scene.time]
    return f"A {scene.weather} {scene.place} {when} {_pick(rng, _WITH)} {trees} and {houses}."


def _noun(vehicle: Vehicle, rng: np.random.Generator) -> str:
    number = f" {_pick(rng, _NUMBER)} {vehicle.number}" if vehicle.number is not None else ""
    return f"a {vehicle.size} {vehicle.colour} {vehicle.kind}{number}"


def _column_sentence(vehicles: list[Vehicle], rng: np.random.Generator) -> str:
    front = vehicles[0]
    verb = _VERBS[int(rng.integers(len(_VERBS)))][0]
    where = f"{front.lane.capitalize()} {front.column},"
    sentence = f"{where} {_noun(front, rng)} {verb} {front.heading}"
    if len(vehicles) == 1:
        return f"{sentence}."
    behind = vehicles[1]
    participle = _VERBS[int(rng.integers(len(_VERBS)))][1]
    return f"{sentence}, {_pick(rng, _HIDES)} {_noun(behind, rng)} {participle} {behind.heading}."


def _person_sentence(side: str, rng: np.random.Generator) -> str:
    waits = _pick(rng, _WAITS)
    if side == "none":
        return f"{_pick(rng, _NOBODY)} {waits} nearby."
    return f"{_pick(rng, _PERSON)} {waits} on the {side}."


def _light_sentence(light: str) -> str:
    return "There is no traffic light." if light == "none" else f"The traffic light is {light}."


def _left_sentence(scene: Scene, rng: np.random.Generator) -> str:
    total, left = len(scene.vehicles), scene.heading_left
    return f"{_pick(rng, _FACING)} left: {NUMBERS[left] if left else 'none'} of {NUMBERS[total]}."


@dataclass
class Reading:
    """What a caption says: scene-wide slots by name, and the vehicles by cell (column, lane)."""

    slots: dict[str, str] = field(default_factory=dict)
    vehicles: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)


_OPENING = re.compile(
    rf"A ({'|'.join(WEATHERS)}) ({'|'.join(PLACES)}) (?:by|at) ({'|'.join(TIMES)}) (?:{'|'.join(_WITH)}) "
    rf"({'|'.join(NUMBERS)}) trees? and ({'|'.join(NUMBERS)}) houses?\."
)
_VEHICLE = (
    rf"an? (?P<size>{'|'.join(SIZES)}) (?P<colour>{'|'.join(COLOURS)}) (?P<kind>{'|'.join(KINDS)})"
    rf"(?: (?:{'|'.join(_NUMBER)}) (?P<number>{'|'.join(map(str, BUS_NUMBERS))}))? "
    rf"(?:{'|'.join(form for forms in _VERBS for form in forms)}) (?P<heading>left|right)"
)
_NOUN = re.compile(_VEHICLE)
_COLUMN = re.compile(rf"({'|'.join(lane.capitalize() for lane in LANES)}) ({'|'.join(COLUMNS)}), ([^.]*)\.")
_PERSON_RE = re.compile(
    rf"(?:(?:{'|'.join(_PERSON)}) (?:{'|'.join(_WAITS)}) on the (left|right)|(?:{'|'.join(_NOBODY)}) (?:{'|'.join(_WAITS)}) nearby)\."
)
_LIGHT_RE = re.compile(r"The traffic light is (red|green)\.|There is no traffic light\.")
_LEFT_RE = re.compile(rf"(?:{'|'.join(_FACING)}) left: ({'|'.join(NUMBERS[1:])}|none) of ({'|'.join(NUMBERS)})\.")


def read(caption: str) -> Reading:
    """Read a caption of the grammar; what it does not say, or says in no known way, is missing from the reading."""
    reading = Reading()
    if match := _OPENING.search(caption):
        names = ("weather", "place", "time", "trees", "houses")
        reading.slots.update(zip(names, match.groups(), strict=True))
    if match := _PERSON_RE.search(caption):
        reading.slots["person"] = match[1] or "none"
    if match := _LIGHT_RE.search(caption):
        reading.slots["light"] = match[1] or "none"
    if match := _LEFT_RE.search(caption):
        reading.slots["heading_left"], reading.slots["count"] = match[1], match[2]
    for lane, column, text in _COLUMN.findall(caption):
        for noun, cell_lane in zip(_NOUN.finditer(text), (lane.lower(), "far"), strict=False):
            reading.vehicles[column, cell_lane] = {k: v for k, v in noun.groupdict().items() if v is not None}
    return reading


def truth(scene: Scene) -> Reading:
    """The reading of a caption that is right everywhere."""
    left = scene.heading_left
    slots = {
        "weather": scene.weather,
        "place": scene.place,
        "time": scene.time,
        "trees": NUMBERS[scene.trees],
        "houses": NUMBERS[scene.houses],
        "person": scene.person,
        "light": scene.light,
        "count": NUMBERS[len(scene.vehicles)],
        "heading_left": NUMBERS[left] if left else "none",
    }
    vehicles = {}
    for v in scene.vehicles:
        said = {"size": v.size, "colour": v.colour, "kind": v.kind, "heading": v.heading}
        vehicles[v.column, v.lane] = said | ({"number": str(v.number)} if v.number is not None else {})
    return Reading(slots, vehicles)


def mark(said: Reading, right: Reading) -> list[tuple[str, bool]]:
    """Mark a reading: (slot name, right or wrong) for every slot of the truth, and a wrong `vehicle` for each one invented.

    `vehicle` is right when a vehicle is said to be in that cell; its other slots are wrong when it is not. `in_front` is marked where two
    vehicles stand in one column.
    """
    marks = [(name, said.slots.get(name) == value) for name, value in right.slots.items()]
    for cell, slots in right.vehicles.items():
        found = said.vehicles.get(cell, {})
        marks.append(("vehicle", cell in said.vehicles))
        marks += [(name, found.get(name) == value) for name, value in slots.items()]
        if cell[1] == "far" and (cell[0], "near") in right.vehicles:
            marks.append(("in_front", cell in said.vehicles and (cell[0], "near") in said.vehicles))
    marks += [("vehicle", False) for cell in said.vehicles if cell not in right.vehicles]
    return marks
