"""The recipe of the small pair: what it says of itself, and, with small numbers, all of it from beginning to end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given

from aiflow_cli.images import scenes as s
from aiflow_cli.images.drawing import render_with_labels
from aiflow_cli.models.pair import find_pair
from aiflow_cli.training.checkpoints import STAGES_OF, finish_pair
from aiflow_cli.training.data import PATCH_FIELDS, SCENE_FIELDS, patch_labels, scene_labels
from aiflow_cli.training.recipe import STEPS, Progress, Recipe
from aiflow_cli.training.sizes import Size, original_config
from aiflow_cli.training.stages import STAGES, run_recipe
from aiflow_cli.training.vocabulary import Words, train_tokenizer
from tests.images.scene_strategies import SCENES


def test_stages_come_after_what_they_need() -> None:
    names = list(STAGES)
    for name, stage in STAGES.items():
        assert all(names.index(needed) < names.index(name) for needed in stage.needs)
        assert set(stage.needs) <= set(names)
    assert set(STEPS) <= set(names)


@pytest.mark.parametrize("size", STAGES_OF, ids=lambda size: size.folder)
def test_what_would_be_trained_has_the_shape_of_what_ships(size: Size) -> None:
    folder = Path(find_pair("small").target).with_name(size.folder)
    shipped = json.loads((folder / "config.json").read_text())
    assert original_config(size, shipped["llm_config"]["vocab_size"]) == shipped


@given(SCENES)
def test_labels_say_what_the_scene_holds(scene: s.Scene) -> None:
    labels = dict(zip(SCENE_FIELDS, scene_labels(scene), strict=True))
    assert all(0 <= labels[name] < classes for name, classes in SCENE_FIELDS.items())
    assert (s.PLACES[labels["place"]], s.LIGHTS[labels["light"]]) == (scene.place, scene.light)
    assert (labels["count"] + 1, labels["trees"]) == (len(scene.vehicles), scene.trees)


def test_patches_say_which_vehicle_is_seen_there() -> None:
    for index in range(20):
        scene = s.scene_at(3, index)
        labels = patch_labels(scene, render_with_labels(scene)[1])
        assert labels.shape == (64, len(PATCH_FIELDS))
        assert (labels.max(0) < list(PATCH_FIELDS.values())).all()
        cells = {1 + s.COLUMNS.index(v.column) * 2 + s.LANES.index(v.lane): v for v in scene.vehicles}
        for cell, kind, colour, *_, number in labels[labels[:, 0] > 0].tolist():
            vehicle = cells[cell]
            assert (s.KINDS[kind], s.COLOURS[colour]) == (vehicle.kind, vehicle.colour)
            assert (*s.BUS_NUMBERS, None)[number] == vehicle.number


def test_an_untrained_model_may_say_anything(tmp_path: Path) -> None:
    """Tokens that no caption has, which it may still say before it has learned, are left out of its caption."""
    train_tokenizer(["a red bus heads left"] * 20, tmp_path)
    words = Words(tmp_path)
    ids = words.encode("a red bus")
    assert words.decode([words.image_token_id, *ids, words.vocab_size - 1, *ids]) == "a red busa red bus"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Two threads wait for each other where other processes want the cores as well."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("one_thread")
def test_a_small_recipe_from_beginning_to_end(tmp_path: Path) -> None:
    """Every stage in a process of its own, then checkpoints with their cards; a second call has nothing left to do."""
    steps = dict.fromkeys(STEPS, 2)
    recipe = Recipe(
        tmp_path, "cpu", steps, 64, held_out_scenes=1, judged_scenes=1, tokenizer_scenes=500, said_scenes=64
    )
    told: list[Progress] = []
    run_recipe(recipe, 2, told.append)
    assert all(recipe.done_file(stage).exists() for stage in STAGES)
    assert {"tokenizer", "scenes", "said"} <= {report.stage for report in told}
    said: list[str] = []
    evaluations = finish_pair(recipe, tmp_path / "pairs", 1, said.append)
    assert {name: evaluation.scenes for name, evaluation in evaluations.items()} == {"small": 1, "small-weak": 1}
    for size in STAGES_OF:
        card = (tmp_path / "pairs" / size.folder / "README.md").read_text()
        assert f"# {size.folder}" in card
        assert "64 rendered scenes" in card
        assert ("What each layer is worth" in card) == (size.folder == "small-target")
    assert np.isfinite([noted["loss"] for noted in recipe.noted("draft")["history"]]).all()
    told.clear()
    run_recipe(recipe, 2, told.append)
    assert told == []
