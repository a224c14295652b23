"""The stages of the recipe (`training/recipe.py`): what each needs, and what it does with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file

from aiflow_cli.images.captions import mark_caption
from aiflow_cli.images.scenes import BUS_NUMBERS, scene_at
from aiflow_cli.models.internvl2 import build_config
from aiflow_cli.training.data import TrainingData, render_training_data
from aiflow_cli.training.language import (
    CaptionTask,
    Model,
    Schedule,
    deepen,
    greedy_captions,
    new_caption_model,
    train_captions,
)
from aiflow_cli.training.recipe import HELD_OUT_SEED, SHALLOW_LAYERS, TRAIN_SEED, Recipe
from aiflow_cli.training.sizes import DRAFT, EOS_ID, TARGET, WEAK_DRAFT, Size, original_config
from aiflow_cli.training.vision import Report, train_vision_tower
from aiflow_cli.training.vocabulary import Words, train_tokenizer

Run = Callable[[Recipe, Report], None]
_NUMBER_WEIGHT = 8.0


class Stage(NamedTuple):
    """What makes something of the recipe, and the stages whose results it needs."""

    run: Run
    needs: tuple[str, ...] = ()


def train_data(recipe: Recipe) -> TrainingData:
    """The scenes that models learn from."""
    return TrainingData(recipe.work / "train", TRAIN_SEED, recipe.train_scenes)


def held_out_data(recipe: Recipe) -> TrainingData:
    """The scenes on which training is judged."""
    return TrainingData(recipe.work / "held-out", HELD_OUT_SEED, recipe.held_out_scenes)


def scenes(recipe: Recipe, report: Report) -> None:
    """Render training and held-out scenes."""
    render_training_data(held_out_data(recipe), 1)
    render_training_data(train_data(recipe), 2, lambda done, count: report(done, count, ""))


def tokenizer(recipe: Recipe, report: Report) -> None:
    """Train the tokenizer on captions."""
    data = train_data(recipe)
    train_tokenizer(map(data.caption, range(recipe.tokenizer_scenes)), recipe.tokenizer)
    report(1, 1, "")


def vision(name: str, size: Size) -> Run:
    """A stage that trains a vision tower on dense labels."""

    def stage(recipe: Recipe, report: Report) -> None:
        config = build_config(original_config(size, 1)).vision_config
        data, held_out = train_data(recipe), held_out_data(recipe)
        tower, accuracy = train_vision_tower(
            config, data, held_out, size.view, recipe.steps[name], recipe.device, report
        )
        save_file({k: v.cpu().contiguous() for k, v in tower.state_dict().items()}, recipe.weights(name))
        recipe.note(name, accuracy)

    return stage


def caption_task(words: Words, size: Size, data: TrainingData, weights: torch.Tensor | None = None) -> CaptionTask:
    """Learn from rendered captions, with new free words each epoch."""

    @cache
    def captions(row: int, epoch: int) -> list[int]:
        return words.encode(data.caption(row, epoch))

    prompt = words.prompt(size.image_tokens)
    return CaptionTask(data.view(size.view), captions, prompt, words.image_token_id, EOS_ID, weights)


def number_weights(words: Words) -> torch.Tensor:
    """Token weights in which the numbers of buses count `_NUMBER_WEIGHT` times.

    They are 1 token in 100 while 15 in 100 are free words, whose noise drowns them: with equal weights a target of 32
    layers had 0.97 of all slots right after 1,600 steps, and the numbers still at chance.
    """
    weights = torch.ones(words.vocab_size)
    for number in BUS_NUMBERS:
        weights[words.pieces.piece_to_id(f"▁{number}")] = _NUMBER_WEIGHT
    return weights


def share_of_slots(model: Model, words: Words, size: Size, data: TrainingData, count: int) -> float:
    """Share of slots right in free-running captions of the first `count` scenes of `data`."""
    said = greedy_captions(model, data.view(size.view)[:count], caption_task(words, size, data))
    marks = [
        right
        for index, ids in enumerate(said)
        for _, right in mark_caption(words.decode(ids), scene_at(data.seed, index))
    ]
    return sum(marks) / len(marks)


def learn(
    recipe: Recipe, report: Report, name: str, size: Size, model: Model, task: CaptionTask, **schedule: Any
) -> None:
    """Train projector and language model; keep the model as NAME.safetensors and its judgings as NAME.json."""
    words, held_out, plan = Words(recipe.tokenizer), held_out_data(recipe), Schedule(recipe.steps[name], **schedule)

    def judge(model: Model) -> float:
        return share_of_slots(model, words, size, held_out, recipe.judged_scenes)

    history = train_captions(model.to(recipe.device), task, plan, recipe.work / f"{name}.checkpoint.pt", judge, report)
    save_file({k: v.detach().cpu().clone() for k, v in model.state_dict().items()}, recipe.weights(name))
    rows = [{"step": step, "loss": loss, "slots": slots} for step, loss, slots in history]
    recipe.note(name, {"history": rows, "schedule": asdict(plan)})


def from_scenes(name: str, size: Size, tower: str, layers: int | None = None, **schedule: Any) -> Run:
    """A stage that trains a fresh language model over the tower of stage `tower`, from rendered captions.

    The weak draft learns the numbers of buses like any other word, the others with `number_weights`.
    """

    def stage(recipe: Recipe, report: Report) -> None:
        words = Words(recipe.tokenizer)
        model = new_caption_model(_model_config(recipe, size, layers), load_file(recipe.weights(tower)), seed=0)
        weights = None if size is WEAK_DRAFT else number_weights(words)
        task = caption_task(words, size, train_data(recipe), weights)
        learn(recipe, report, name, size, model, task, **schedule)

    return stage


def target(recipe: Recipe, report: Report) -> None:
    """The target at its full depth: starts as what the shallow one computes."""
    words, shallow = Words(recipe.tokenizer), trained_model(recipe, "shallow", TARGET, SHALLOW_LAYERS)
    model = deepen(shallow, _model_config(recipe, TARGET), seed=0)
    task = caption_task(words, TARGET, train_data(recipe), number_weights(words))
    learn(recipe, report, "target", TARGET, model, task, judge_every=100, seed=1)


def said(recipe: Recipe, report: Report) -> None:
    """The target's own captions of training scenes, for the draft to learn from."""
    data, result = train_data(recipe), []
    model = trained_model(recipe, "target", TARGET).to(recipe.device)
    task = caption_task(Words(recipe.tokenizer), TARGET, data)
    for start in range(0, recipe.said_scenes, 200):
        result += greedy_captions(model, data.view(TARGET.view)[start : start + 200], task, batch=200)
        report(start + 200, recipe.said_scenes, "")
    recipe.note("said", result, indent=None)


def draft(recipe: Recipe, report: Report) -> None:
    """The strong draft goes on with the target's own captions, and takes over its wording."""
    captions: list[list[int]] = recipe.noted("said")
    words, view = Words(recipe.tokenizer), train_data(recipe).view(DRAFT.view)[: len(captions)]
    prompt = words.prompt(DRAFT.image_tokens)
    task = CaptionTask(view, lambda row, epoch: captions[row], prompt, words.image_token_id, EOS_ID)
    model = trained_model(recipe, "untaught", DRAFT)
    learn(recipe, report, "draft", DRAFT, model, task, muon_lr=0.01, adam_lr=1e-3)


def _model_config(recipe: Recipe, size: Size, layers: int | None = None) -> Any:
    """The transformers configuration of a model of `size`, with another number of layers if asked."""
    words = Words(recipe.tokenizer)
    original = original_config(size, words.vocab_size)
    if layers is not None:
        original["llm_config"]["num_hidden_layers"] = layers
    return build_config(original, words.image_token_id)


def trained_model(recipe: Recipe, name: str, size: Size, layers: int | None = None) -> Model:
    """The model that stage `name` left."""
    model = new_caption_model(_model_config(recipe, size, layers), None, seed=0)
    model.load_state_dict(load_file(recipe.weights(name)))
    return model.eval()


STAGES = {
    "scenes": Stage(scenes),
    "tokenizer": Stage(tokenizer),
    "vision-target": Stage(vision("vision-target", TARGET), ("scenes",)),
    "vision-draft": Stage(vision("vision-draft", DRAFT), ("scenes",)),
    "vision-weak": Stage(vision("vision-weak", WEAK_DRAFT), ("scenes",)),
    "shallow": Stage(
        from_scenes("shallow", TARGET, "vision-target", SHALLOW_LAYERS, judge_every=100), ("vision-target", "tokenizer")
    ),
    "untaught": Stage(from_scenes("untaught", DRAFT, "vision-draft"), ("vision-draft", "tokenizer")),
    "weak": Stage(from_scenes("weak", WEAK_DRAFT, "vision-weak"), ("vision-weak", "tokenizer")),
    "target": Stage(target, ("shallow",)),
    "said": Stage(said, ("target",)),
    "draft": Stage(draft, ("said", "untaught")),
}
"""In the order in which they start where there is a choice."""
