"""Captions of rendered scenes: a grammar with free wording, and its reader.

The order of what is said is fixed and everything is said, so that a caption can be marked slot by slot. The wording is
free: where people would use one word or another, the grammar draws one at random, and nobody can predict which (two
honest models choose differently there). With merged punctuation a caption has some 35 to 60 tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from aiflow_cli.images import scenes as s
from aiflow_cli.images.scenes import COLUMNS, LANES, Scene, Vehicle

NUMBERS = ("no", "one", "two", "three", "four")
_WITH = ("with", "showing")
_VERBS = {"heads": "heading", "drives": "driving", "moves": "moving"}
_HIDES = ("hiding", "covering")
_NUMBER = ("number", "line")
_WHEN = {"day": "by day", "dusk": "at dusk", "night": "at night"}
_PERSON = ("A person", "Someone", "A pedestrian")
_NOBODY = ("Nobody", "No one")
_WAITS = ("waits", "stands")
_FACING = ("Facing", "Pointing")

Pick = Callable[[Sequence[str]], str]
"""Chooses one of several words."""


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """One caption of `scene`, its free words drawn from `rng`."""

    def pick(words: Sequence[str]) -> str:
        return words[int(rng.integers(len(words)))]

    trees = f"{NUMBERS[scene.trees]} {'tree' if scene.trees == 1 else 'trees'}"
    houses = f"{NUMBERS[scene.houses]} {'house' if scene.houses == 1 else 'houses'}"
    sentences = [f"A {scene.weather} {scene.place} {_WHEN[scene.time]} {pick(_WITH)} {trees} and {houses}."]
    by_column = [[v for v in scene.vehicles if v.column == column] for column in COLUMNS]
    sentences += [_column_sentence(vehicles, pick) for vehicles in by_column if vehicles]
    waits, nobody = pick(_WAITS), scene.person == "none"
    sentences.append(
        f"{pick(_NOBODY)} {waits} nearby." if nobody else f"{pick(_PERSON)} {waits} on the {scene.person}."
    )
    sentences.append("There is no traffic light." if scene.light == "none" else f"The traffic light is {scene.light}.")
    sentences.append(f"{pick(_FACING)} left: {_how_many_left(scene)} of {NUMBERS[scene.count]}.")
    return " ".join(sentences)


def _column_sentence(vehicles: list[Vehicle], pick: Pick) -> str:
    front, *others = vehicles
    verb = pick(tuple(_VERBS))
    sentence = f"{front.lane.capitalize()} {front.column}, {_noun(front, pick)} {verb} {front.heading}"
    for behind in others:  # at most one
        participle = _VERBS[pick(tuple(_VERBS))]
        sentence += f", {pick(_HIDES)} {_noun(behind, pick)} {participle} {behind.heading}"
    return f"{sentence}."


def _noun(vehicle: Vehicle, pick: Pick) -> str:
    number = f" {pick(_NUMBER)} {vehicle.number}" if vehicle.number is not None else ""
    return f"a {vehicle.size} {vehicle.colour} {vehicle.kind}{number}"


def _how_many_left(scene: Scene) -> str:
    return NUMBERS[scene.heading_left] if scene.heading_left else "none"


@dataclass
class Reading:
    """What a caption says: scene-wide slots by name, and the vehicles by cell (column, lane)."""

    slots: dict[str, str] = field(default_factory=dict)
    vehicles: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)


def _any(words: Iterable[object]) -> str:
    return "|".join(map(str, words))


_SCENE = (
    re.compile(
        rf"A (?P<weather>{_any(s.WEATHERS)}) (?P<place>{_any(s.PLACES)}) (?:by|at) (?P<time>{_any(s.TIMES)}) "
        rf"(?:{_any(_WITH)}) (?P<trees>{_any(NUMBERS)}) trees? and (?P<houses>{_any(NUMBERS)}) houses?\."
    ),
    re.compile(
        rf"(?:(?:{_any(_PERSON)}) (?:{_any(_WAITS)}) on the (?P<person>left|right)|"
        rf"(?:{_any(_NOBODY)}) (?:{_any(_WAITS)}) nearby)\."
    ),
    re.compile(r"The traffic light is (?P<light>red|green)\.|There is no traffic light\."),
    re.compile(
        rf"(?:{_any(_FACING)}) left: (?P<heading_left>{_any(NUMBERS[1:])}|none) of (?P<count>{_any(NUMBERS)})\."
    ),
)
_COLUMN = re.compile(rf"({_any([lane.capitalize() for lane in LANES])}) ({_any(COLUMNS)}), ([^.]*)\.")
_NOUN = re.compile(
    rf"an? (?P<size>{_any(s.SIZES)}) (?P<colour>{_any(s.COLOURS)}) (?P<kind>{_any(s.KINDS)})"
    rf"(?: (?:{_any(_NUMBER)}) (?P<number>{_any(s.BUS_NUMBERS)}))? "
    rf"(?:{_any((*_VERBS, *_VERBS.values()))}) (?P<heading>left|right)"
)


def read(caption: str) -> Reading:
    """Read a caption of the grammar; what it does not say, or says in no known way, is missing from the reading."""
    reading = Reading()
    for pattern in _SCENE:
        if match := pattern.search(caption):
            reading.slots.update(match.groupdict(default="none"))
    for lane, column, text in _COLUMN.findall(caption):
        for noun, cell_lane in zip(_NOUN.finditer(text), (lane.lower(), "far"), strict=False):
            reading.vehicles[column, cell_lane] = {k: v for k, v in noun.groupdict().items() if v is not None}
    return reading


def truth(scene: Scene) -> Reading:
    """The reading of a caption that is right everywhere."""
    names = ("weather", "place", "time", "trees", "houses", "person", "light", "count", "heading_left")
    values = {name: getattr(scene, name) for name in names}
    slots = {name: value if isinstance(value, str) else NUMBERS[value] for name, value in values.items()}
    vehicles = {}
    for vehicle in scene.vehicles:
        values = {name: getattr(vehicle, name) for name in ("size", "colour", "kind", "heading", "number")}
        vehicles[vehicle.column, vehicle.lane] = {k: str(v) for k, v in values.items() if v is not None}
    return Reading(slots | {"heading_left": _how_many_left(scene)}, vehicles)


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
