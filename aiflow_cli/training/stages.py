"""The stages of the recipe (`training/recipe.py`): what each needs, what it does with it, and how all are run.

They run in the order of their needs, side by side in processes of one thread each. A stage that is done is skipped;
language stages also go on from the last judging.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file

from aiflow_cli.images.captions import mark_caption
from aiflow_cli.images.scenes import BUS_NUMBERS, scene_at
from aiflow_cli.models.internvl2 import build_config
from aiflow_cli.node.process import die_with_parent, environment
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
from aiflow_cli.training.recipe import HELD_OUT_SEED, SHALLOW_LAYERS, TRAIN_SEED, Progress, Recipe
from aiflow_cli.training.sizes import DRAFT, TARGET, WEAK_DRAFT, Size, original_config
from aiflow_cli.training.vision import Report, train_vision_tower
from aiflow_cli.training.vocabulary import Words, train_tokenizer

_NUMBER_WEIGHT = 8.0


class Stage(NamedTuple):
    """What makes something of the recipe under its name, and the stages whose results it needs."""

    run: Callable[[Recipe, str, Report], None]
    needs: tuple[str, ...] = ()


def train_data(recipe: Recipe) -> TrainingData:
    """The scenes that models learn from."""
    return TrainingData(recipe.work / "train", TRAIN_SEED, recipe.train_scenes)


def held_out_data(recipe: Recipe) -> TrainingData:
    """The scenes on which training is judged."""
    return TrainingData(recipe.work / "held-out", HELD_OUT_SEED, recipe.held_out_scenes)


def scenes(recipe: Recipe, _: str, report: Report) -> None:
    """Render training and held-out scenes."""
    render_training_data(held_out_data(recipe), 1)
    render_training_data(train_data(recipe), 2, lambda done, count: report(done, count, ""))


def tokenizer(recipe: Recipe, _: str, report: Report) -> None:
    """Train the tokenizer on captions."""
    train_tokenizer(map(train_data(recipe).caption, range(recipe.tokenizer_scenes)), recipe.tokenizer)
    report(1, 1, "")


def vision(recipe: Recipe, name: str, report: Report, size: Size) -> None:
    """Train a vision tower on dense labels."""
    config, steps = build_config(original_config(size, 1)).vision_config, recipe.steps[name]
    data, held_out = train_data(recipe), held_out_data(recipe)
    tower, accuracy = train_vision_tower(config, data, held_out, size.view, steps, recipe.device, report)
    _keep(recipe, name, tower, accuracy)


def _keep(recipe: Recipe, name: str, model: torch.nn.Module, note: object) -> None:
    weights = {key: value.cpu().contiguous().clone() for key, value in model.state_dict().items()}
    save_file(weights, recipe.weights(name))
    recipe.note(name, note)


def number_weights(words: Words) -> torch.Tensor:
    """Token weights in which the numbers of buses count `_NUMBER_WEIGHT` times.

    They are 1 token in 100 while 15 in 100 are free words, whose noise drowns them: with equal weights a target of 32
    layers had 0.97 of all slots right after 1,600 steps, and the numbers still at chance.
    """
    weights = torch.ones(words.vocab_size)
    for number in BUS_NUMBERS:
        weights[words.pieces.piece_to_id(f"▁{number}")] = _NUMBER_WEIGHT
    return weights


def share_of_slots(model: Model, task: CaptionTask, count: int) -> float:
    """Share of slots right in free-running captions of the first `count` scenes of `task`."""
    marks: list[bool] = []
    for index, ids in enumerate(greedy_captions(model, task.view[:count], task)):
        marks += [right for _, right in mark_caption(task.words.decode(ids), scene_at(task.data.seed, index))]
    return sum(marks) / len(marks)


def _learn(recipe: Recipe, name: str, report: Report, model: Model, task: CaptionTask, **schedule: Any) -> None:
    """Train projector and language model; keep the model as NAME.safetensors and its judgings as NAME.json."""
    held_out, plan = held_out_task(recipe, task.size), Schedule(recipe.steps[name], **schedule)
    judge = partial(share_of_slots, task=held_out, count=recipe.judged_scenes)
    history = train_captions(model.to(recipe.device), task, plan, recipe.work / f"{name}.checkpoint.pt", judge, report)
    rows = [{"step": step, "loss": loss, "slots": slots} for step, loss, slots in history]
    _keep(recipe, name, model, {"history": rows, "schedule": asdict(plan)})


def held_out_task(recipe: Recipe, size: Size) -> CaptionTask:
    """What a model of `size` is judged by."""
    return CaptionTask(Words(recipe.tokenizer), size, held_out_data(recipe))


def from_scenes(
    recipe: Recipe, name: str, report: Report, size: Size, tower: str, layers: int | None = None, **schedule: Any
) -> None:
    """Train a fresh language model over the tower of stage `tower`, from rendered captions.

    The weak draft learns the numbers of buses like any other word, the others with `number_weights`.
    """
    words = Words(recipe.tokenizer)
    model = new_caption_model(_model_config(recipe, size, layers), load_file(recipe.weights(tower)), seed=0)
    weights = None if size is WEAK_DRAFT else number_weights(words)
    _learn(recipe, name, report, model, CaptionTask(words, size, train_data(recipe), weights), **schedule)


def target(recipe: Recipe, name: str, report: Report) -> None:
    """The target at its full depth: starts as what the shallow one computes."""
    words, shallow = Words(recipe.tokenizer), trained_model(recipe, "shallow", TARGET, SHALLOW_LAYERS)
    model = deepen(shallow, _model_config(recipe, TARGET), seed=0)
    task = CaptionTask(words, TARGET, train_data(recipe), number_weights(words))
    _learn(recipe, name, report, model, task, judge_every=100, seed=1)


def said(recipe: Recipe, name: str, report: Report) -> None:
    """The target's own captions of training scenes, for the draft to learn from."""
    result: list[list[int]] = []
    model = trained_model(recipe, "target", TARGET).to(recipe.device)
    task = CaptionTask(Words(recipe.tokenizer), TARGET, train_data(recipe))
    for start in range(0, recipe.said_scenes, 200):
        result += greedy_captions(model, task.view[start : start + 200], task, batch=200)
        report(start + 200, recipe.said_scenes, "")
    recipe.note(name, result, indent=None)


def draft(recipe: Recipe, name: str, report: Report) -> None:
    """The strong draft goes on with the target's own captions, and takes over its wording."""
    task = CaptionTask(Words(recipe.tokenizer), DRAFT, train_data(recipe), said=recipe.noted("said"))
    _learn(recipe, name, report, trained_model(recipe, "untaught", DRAFT), task, muon_lr=0.01, adam_lr=1e-3)


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


_shallow = partial(from_scenes, size=TARGET, tower="vision-target", layers=SHALLOW_LAYERS, judge_every=100)
STAGES = {
    "scenes": Stage(scenes),
    "tokenizer": Stage(tokenizer),
    "vision-target": Stage(partial(vision, size=TARGET), ("scenes",)),
    "vision-draft": Stage(partial(vision, size=DRAFT), ("scenes",)),
    "vision-weak": Stage(partial(vision, size=WEAK_DRAFT), ("scenes",)),
    "shallow": Stage(_shallow, ("vision-target", "tokenizer")),
    "untaught": Stage(partial(from_scenes, size=DRAFT, tower="vision-draft"), ("vision-draft", "tokenizer")),
    "weak": Stage(partial(from_scenes, size=WEAK_DRAFT, tower="vision-weak"), ("vision-weak", "tokenizer")),
    "target": Stage(target, ("shallow",)),
    "said": Stage(said, ("target",)),
    "draft": Stage(draft, ("said", "untaught")),
}
"""In the order in which they start where there is a choice."""


def run_recipe(recipe: Recipe, workers: int, show: Callable[[Progress], None]) -> None:
    """Run all stages that are not done, up to `workers` side by side, calling `show` with their progress."""
    recipe.work.mkdir(parents=True, exist_ok=True)
    os.environ.update(environment())  # which the workers inherit
    context = multiprocessing.get_context("spawn")
    silent = (signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the workers too: they end without a word
    pools = ProcessPoolExecutor(workers, mp_context=context, initializer=signal.signal, initargs=silent)
    with context.Manager() as manager, pools as pool:
        messages = manager.Queue()
        running: dict[Future[None], str] = {}
        waiting = [stage for stage in STAGES if not recipe.done_file(stage).exists()]
        while waiting or running:
            ready = [name for name in waiting if all(recipe.done_file(n).exists() for n in STAGES[name].needs)]
            for name in ready[: workers - len(running)]:
                waiting.remove(name)
                running[pool.submit(_run_stage, recipe, name, messages)] = name
            finished, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            while not messages.empty():
                show(messages.get())
            for future in finished:
                future.result()
                recipe.done_file(running.pop(future)).write_text(f"{time.time():.0f}\n")


def _run_stage(recipe: Recipe, name: str, messages: Any) -> None:
    die_with_parent(os.getppid())
    torch.set_num_threads(1)
    STAGES[name].run(recipe, name, lambda done, total, note: messages.put(Progress(name, done, total, note)))
