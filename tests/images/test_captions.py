"""Captions: whatever a scene is and however it is worded, it is read back whole, and each wrong slot is marked."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.images.captions import Reading, describe, mark, read, truth
from aiflow_cli.images.scenes import Scene, Vehicle, scene_at
from tests.images.scene_strategies import SCENES, WORDING_SEEDS
from tests.images.scene_strategies import scenes as stream

FREE_WORDS = (
    ("with", "showing"),
    ("heads", "drives", "moves"),
    ("heading", "driving", "moving"),
    ("hiding", "covering"),
    ("number", "line"),
    ("A person", "Someone", "A pedestrian"),
    ("Nobody", "No one"),
    ("waits", "stands"),
    ("Facing", "Pointing"),
)
"""Written out again: the grammar of the captions that the small pair learned."""
OTHER = {
    "weather": ("sunny", "rainy"),
    "place": ("street", "harbour"),
    "time": ("day", "night"),
    "trees": ("one", "three"),
    "houses": ("no", "two"),
    "person": ("left", "right"),
    "light": ("red", "green"),
    "count": ("one", "two"),
    "heading_left": ("one", "two"),
    "size": ("small", "large"),
    "colour": ("red", "blue"),
    "kind": ("bus", "car"),
    "heading": ("left", "right"),
    "number": ("1", "4"),
}
"""Two values of each slot: one of them is not the right one."""


def wrong(slot: str, right: str) -> str:
    return next(value for value in OTHER[slot] if value != right)


def wrong_slots(said: Reading, scene: Scene) -> list[str]:
    return [name for name, right in mark(said, truth(scene)) if not right]


@given(SCENES, WORDING_SEEDS)
def test_what_is_described_is_read_back(scene: Scene, seed: int) -> None:
    caption = describe(scene, np.random.default_rng(seed))
    assert read(caption) == truth(scene)
    assert wrong_slots(read(caption), scene) == []


def test_every_free_word_occurs_and_is_read() -> None:
    scenes = list(stream(3, 40))
    captions = [(s, describe(s, np.random.default_rng((seed, i)))) for seed in range(10) for i, s in enumerate(scenes)]
    everything = " ".join(caption for _, caption in captions)
    for words in FREE_WORDS:
        counts = {word: everything.count(f"{word} ") for word in words}
        assert min(counts.values()) * 4 > max(counts.values()), counts  # drawn evenly, not now and then
    assert all(read(caption) == truth(scene) for scene, caption in captions)
    assert len({caption for _, caption in captions}) > 380


def test_wording_follows_its_seed() -> None:
    scene = scene_at(3, 0)
    wordings = [[describe(scene, np.random.default_rng(seed)) for seed in range(20)] for _ in range(2)]
    assert wordings[0] == wordings[1]
    assert len(set(wordings[0])) > 10


@given(SCENES, st.data())
def test_each_wrong_slot_of_the_scene_is_marked(scene: Scene, data: st.DataObject) -> None:
    right = truth(scene)
    slot = data.draw(st.sampled_from(sorted(right.slots)))
    said = deepcopy(right)
    said.slots[slot] = wrong(slot, right.slots[slot])
    assert wrong_slots(said, scene) == [slot]
    del said.slots[slot]
    assert wrong_slots(said, scene) == [slot]


@given(SCENES, st.data())
def test_each_wrong_slot_of_a_vehicle_is_marked(scene: Scene, data: st.DataObject) -> None:
    right = truth(scene)
    cell = data.draw(st.sampled_from(sorted(right.vehicles)))
    slot = data.draw(st.sampled_from(sorted(right.vehicles[cell])))
    said = deepcopy(right)
    said.vehicles[cell][slot] = wrong(slot, right.vehicles[cell][slot])
    assert wrong_slots(said, scene) == [slot]
    del said.vehicles[cell][slot]
    assert wrong_slots(said, scene) == [slot]


@given(SCENES, st.data())
def test_a_vehicle_left_out_is_marked_with_all_it_is(scene: Scene, data: st.DataObject) -> None:
    right = truth(scene)
    cell = data.draw(st.sampled_from(sorted(right.vehicles)))
    said = deepcopy(right)
    del said.vehicles[cell]
    in_front = ["in_front"] if {(cell[0], "near"), (cell[0], "far")} <= right.vehicles.keys() else []
    assert sorted(wrong_slots(said, scene)) == sorted(["vehicle", *right.vehicles[cell], *in_front])


@given(SCENES)
def test_an_invented_vehicle_is_marked(scene: Scene) -> None:
    said = truth(scene)
    cells = [(column, lane) for column in ("left", "middle", "right") for lane in ("near", "far")]
    free = next(cell for cell in cells if cell not in said.vehicles)
    said.vehicles[free] = {"size": "small", "colour": "red", "kind": "car", "heading": "left"}
    assert wrong_slots(said, scene) == ["vehicle"]


SCENE = Scene(
    place="car park",
    weather="snowy",
    time="dusk",
    trees=2,
    houses=1,
    person="none",
    light="red",
    vehicles=(
        Vehicle("left", "far", "ambulance", "white", "right", "large"),
        Vehicle("right", "near", "car", "blue", "left", "small"),
        Vehicle("right", "far", "bus", "green", "left", "large", 7),
    ),
    decor_seed=0,
)
CAPTION = (
    "A snowy car park at dusk with two trees and one house. Far left, a large white ambulance drives right. "
    "Near right, a small blue car moves left, hiding a large green bus line 7 heading left. "
    "Nobody waits nearby. The traffic light is red. Facing left: two of three."
)


@pytest.mark.parametrize(
    ("good", "bad", "slots"),
    [
        ("snowy", "sunny", ["weather"]),
        ("car park", "street", ["place"]),
        ("at dusk", "at night", ["time"]),
        ("two trees", "three trees", ["trees"]),
        ("one house", "no houses", ["houses"]),
        ("large white", "small white", ["size"]),
        ("blue", "black", ["colour"]),
        ("ambulance", "truck", ["kind"]),
        ("drives right", "drives left", ["heading"]),
        ("line 7", "line 4", ["number"]),
        (" line 7", "", ["number"]),
        ("heading left", "heading right", ["heading"]),
        ("Nobody waits nearby", "Someone waits on the left", ["person"]),
        ("Nobody waits nearby.", "", ["person"]),
        ("The traffic light is red", "There is no traffic light", ["light"]),
        ("two of three", "one of three", ["heading_left"]),
        ("two of three", "two of four", ["count"]),
        ("Far left", "Near left", ["vehicle", "size", "colour", "kind", "heading", "vehicle"]),
        (
            ", hiding a large green bus line 7 heading left",
            "",
            ["vehicle", "size", "colour", "kind", "heading", "number", "in_front"],
        ),
        # What stands in front is not understood: what it hides is then taken for it, and marked as left out itself.
        ("small blue car", "small car", ["vehicle", "size", "colour", "kind", "heading", "number", "in_front"]),
    ],
)
def test_a_wrong_word_is_a_wrong_slot(good: str, bad: str, slots: list[str]) -> None:
    """As a model would write it, from the words to the marks."""
    assert wrong_slots(read(CAPTION), SCENE) == []
    assert CAPTION.count(good) == 1
    marked = wrong_slots(read(CAPTION.replace(good, bad)), SCENE)
    assert sorted(set(marked)) == sorted(set(slots))


@given(st.text() | st.just("") | st.just("A photograph of a street."))
def test_any_text_can_be_read(text: str) -> None:
    """What a model of photographs says of a scene is wrong everywhere, not an error."""
    said = read(text)
    assert said == Reading()
    marks = mark(said, truth(SCENE))
    assert len(marks) == 9 + 3 * 5 + 1 + 1  # scene; cell and four slots of each vehicle; the bus's number; in front
    assert not any(right for _, right in marks)
