"""Captions of rendered scenes: a grammar with free wording, and its reader.

The order of what is said is fixed and everything is said, so that a caption can be marked slot by slot. The wording is
free: where people would use one word or another, the grammar draws one at random, and nobody can predict which (two
honest models choose differently there). With merged punctuation a caption has some 35 to 60 tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from aiflow_cli.images import scenes as s
from aiflow_cli.images.scenes import COLUMNS, LANES, Scene, Vehicle

Choice = TypeVar("Choice")

NUMBERS = ("no", "one", "two", "three", "four")
_WITH = ("with", "showing")
_VERBS = (("heads", "heading"), ("drives", "driving"), ("moves", "moving"))
_HIDES = ("hiding", "covering")
_NUMBER = ("number", "line")
_WHEN = {"day": "by day", "dusk": "at dusk", "night": "at night"}
_PERSON = ("A person", "Someone", "A pedestrian")
_NOBODY = ("Nobody", "No one")
_WAITS = ("waits", "stands")
_FACING = ("Facing", "Pointing")


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """One caption of `scene`, its free words drawn from `rng`."""
    sentences = [_opening(scene, rng)]
    by_column = [[v for v in scene.vehicles if v.column == column] for column in COLUMNS]
    sentences += [_column_sentence(vehicles, rng) for vehicles in by_column if vehicles]
    sentences.append(_person_sentence(scene.person, rng))
    sentences.append("There is no traffic light." if scene.light == "none" else f"The traffic light is {scene.light}.")
    sentences.append(f"{_pick(rng, _FACING)} left: {_how_many_left(scene)} of {NUMBERS[scene.count]}.")
    return " ".join(sentences)


def _pick(rng: np.random.Generator, words: Sequence[Choice]) -> Choice:
    return words[int(rng.integers(len(words)))]


def _opening(scene: Scene, rng: np.random.Generator) -> str:
    trees = f"{NUMBERS[scene.trees]} {'tree' if scene.trees == 1 else 'trees'}"
    houses = f"{NUMBERS[scene.houses]} {'house' if scene.houses == 1 else 'houses'}"
    return f"A {scene.weather} {scene.place} {_WHEN[scene.time]} {_pick(rng, _WITH)} {trees} and {houses}."


def _noun(vehicle: Vehicle, rng: np.random.Generator) -> str:
    number = f" {_pick(rng, _NUMBER)} {vehicle.number}" if vehicle.number is not None else ""
    return f"a {vehicle.size} {vehicle.colour} {vehicle.kind}{number}"


def _column_sentence(vehicles: list[Vehicle], rng: np.random.Generator) -> str:
    front, *others = vehicles
    verb, _ = _pick(rng, _VERBS)
    sentence = f"{front.lane.capitalize()} {front.column}, {_noun(front, rng)} {verb} {front.heading}"
    for behind in others:  # at most one
        _, participle = _pick(rng, _VERBS)
        sentence += f", {_pick(rng, _HIDES)} {_noun(behind, rng)} {participle} {behind.heading}"
    return f"{sentence}."


def _person_sentence(side: str, rng: np.random.Generator) -> str:
    waits = _pick(rng, _WAITS)
    if side == "none":
        return f"{_pick(rng, _NOBODY)} {waits} nearby."
    return f"{_pick(rng, _PERSON)} {waits} on the {side}."


def _how_many_left(scene: Scene) -> str:
    return NUMBERS[scene.heading_left] if scene.heading_left else "none"


@dataclass
class Reading:
    """What a caption says: scene-wide slots by name, and the vehicles by cell (column, lane)."""

    slots: dict[str, str] = field(default_factory=dict)
    vehicles: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)


def _any(words: Sequence[object]) -> str:
    return "|".join(map(str, words))


_OPENING = re.compile(
    rf"A ({_any(s.WEATHERS)}) ({_any(s.PLACES)}) (?:by|at) ({_any(s.TIMES)}) (?:{_any(_WITH)}) "
    rf"({_any(NUMBERS)}) trees? and ({_any(NUMBERS)}) houses?\."
)
_NOUN = re.compile(
    rf"an? (?P<size>{_any(s.SIZES)}) (?P<colour>{_any(s.COLOURS)}) (?P<kind>{_any(s.KINDS)})"
    rf"(?: (?:{_any(_NUMBER)}) (?P<number>{_any(s.BUS_NUMBERS)}))? "
    rf"(?:{_any([form for forms in _VERBS for form in forms])}) (?P<heading>left|right)"
)
_COLUMN = re.compile(rf"({_any([lane.capitalize() for lane in LANES])}) ({_any(COLUMNS)}), ([^.]*)\.")
_PERSON_RE = re.compile(
    rf"(?:(?:{_any(_PERSON)}) (?:{_any(_WAITS)}) on the (left|right)|(?:{_any(_NOBODY)}) (?:{_any(_WAITS)}) nearby)\."
)
_LIGHT_RE = re.compile(r"The traffic light is (red|green)\.|There is no traffic light\.")
_LEFT_RE = re.compile(rf"(?:{_any(_FACING)}) left: ({_any(NUMBERS[1:])}|none) of ({_any(NUMBERS)})\.")
_SCENE_SLOTS = (
    (_OPENING, ("weather", "place", "time", "trees", "houses")),
    (_PERSON_RE, ("person",)),
    (_LIGHT_RE, ("light",)),
    (_LEFT_RE, ("heading_left", "count")),
)


def read(caption: str) -> Reading:
    """Read a caption of the grammar; what it does not say, or says in no known way, is missing from the reading."""
    reading = Reading()
    for pattern, names in _SCENE_SLOTS:
        if match := pattern.search(caption):
            reading.slots.update(zip(names, match.groups(default="none"), strict=True))
    for lane, column, text in _COLUMN.findall(caption):
        for noun, cell_lane in zip(_NOUN.finditer(text), (lane.lower(), "far"), strict=False):
            reading.vehicles[column, cell_lane] = {k: v for k, v in noun.groupdict().items() if v is not None}
    return reading


def truth(scene: Scene) -> Reading:
    """The reading of a caption that is right everywhere."""
    slots = {
        "weather": scene.weather,
        "place": scene.place,
        "time": scene.time,
        "trees": NUMBERS[scene.trees],
        "houses": NUMBERS[scene.houses],
        "person": scene.person,
        "light": scene.light,
        "count": NUMBERS[scene.count],
        "heading_left": _how_many_left(scene),
    }
    return Reading(slots, {(v.column, v.lane): _slots(v) for v in scene.vehicles})


def _slots(vehicle: Vehicle) -> dict[str, str]:
    names = ("size", "colour", "kind", "heading", "number")
    return {name: str(value) for name in names if (value := getattr(vehicle, name)) is not None}


def mark_caption(caption: str, scene: Scene) -> list[tuple[str, bool]]:
    """Mark what a caption says of its scene, slot by slot."""
    return mark(read(caption), truth(scene))


def mark(said: Reading, right: Reading) -> list[tuple[str, bool]]:
    """(slot name, right or wrong) for every slot of the truth, and a wrong `vehicle` for each one invented.

    `vehicle` is right when a vehicle is said to be in that cell; its other slots are wrong when it is not. `in_front`
    is marked where two vehicles stand in one column.
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
