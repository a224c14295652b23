"""The stages of the recipe (`training/recipe.py`), each a function of the recipe that leaves its files in the work folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from transformers import InternVLForConditionalGeneration

from aiflow_cli.images.captions import describe, mark, read, truth
from aiflow_cli.images.scenes import BUS_NUMBERS, scene_at
from aiflow_cli.models.internvl2 import build_config
from aiflow_cli.training import recipe as r
from aiflow_cli.training.data import TrainingData, render_training_data
from aiflow_cli.training.language import (
    CaptionTask,
    Schedule,
    deepen,
    greedy_captions,
    new_caption_model,
    train_captions,
)
from aiflow_cli.training.sizes import DRAFT, EOS_ID, QUESTION, TARGET, WEAK_DRAFT, Size, original_config
from aiflow_cli.training.vision import train_vision_tower
from aiflow_cli.training.vocabulary import train_tokenizer

Report = Callable[[int, int, str], None]
Stage = Callable[[r.Recipe, Report], None]
_JUDGED_SCENES = 100
_VISION_BATCH = 48
_NUMBER_WEIGHT = 8.0


def train_data(recipe: r.Recipe) -> TrainingData:
    """The scenes that models learn from."""
    return TrainingData(recipe.work / "train", r.TRAIN_SEED, r.TRAIN_SCENES)


def held_out_data(recipe: r.Recipe) -> TrainingData:
    """The scenes on which training is judged."""
    return TrainingData(recipe.work / "held-out", r.HELD_OUT_SEED, r.HELD_OUT_SCENES)


def scenes(recipe: r.Recipe, report: Report) -> None:
    """Render training and held-out scenes."""
    render_training_data(recipe.work / "held-out", r.HELD_OUT_SEED, r.HELD_OUT_SCENES, 1)
    render_training_data(
        recipe.work / "train", r.TRAIN_SEED, r.TRAIN_SCENES, 2, lambda done, count: report(done, count, "")
    )


def tokenizer(recipe: r.Recipe, report: Report) -> None:
    """Train the tokenizer on captions."""
    wordings = (
        describe(scene_at(r.TRAIN_SEED, i), np.random.default_rng((r.TRAIN_SEED, i, 2, 0)))
        for i in range(r.TOKENIZER_SCENES)
    )
    train_tokenizer(wordings, recipe.work / "tokenizer")
    report(1, 1, "")


def vision(name: str, size: Size) -> Stage:
    """A stage that trains a vision tower on dense labels."""

    def stage(recipe: r.Recipe, report: Report) -> None:
        config = build_config(original_config(size, 1)).vision_config
        steps = getattr(recipe, f"{name.replace('-', '_')}_steps")
        tower, accuracy = train_vision_tower(
            config, train_data(recipe), held_out_data(recipe), size.view, steps, _VISION_BATCH, 0, recipe.device, report
        )
        save_file({k: v.cpu().contiguous() for k, v in tower.state_dict().items()}, recipe.work / f"{name}.safetensors")
        (recipe.work / f"{name}.json").write_text(json.dumps(accuracy, indent=2) + "\n")

    return stage


class Words:
    """The tokenizer of the small pair while it is in training: captions to ids and back, and the prompt."""

    def __init__(self, folder: Path) -> None:
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        added: dict[str, int] = json.loads((folder / "added_tokens.json").read_text())
        self.vocab_size = self.pieces.get_piece_size() + len(added)
        self.image_token_id = added["<IMG_CONTEXT>"]
        self._added = added

    def prompt(self, image_tokens: int) -> list[int]:
        """Ids before the caption (the template "aiflow-small" of `models/prompt.py`)."""
        image = [self._added["<img>"], *[self.image_token_id] * image_tokens, self._added["</img>"]]
        return [self.pieces.bos_id(), *image, *self.pieces.encode(QUESTION), self._added["<|im_end|>"]]

    def encode(self, caption: str) -> list[int]:
        """Ids of a caption with the end token."""
        return [*self.pieces.encode(caption), EOS_ID]

    def decode(self, ids: list[int]) -> str:
        """The caption of ids, the end token dropped."""
        text: str = self.pieces.decode([i for i in ids if i != EOS_ID])
        return text


def caption_task(words: Words, size: Size, data: TrainingData, weights: torch.Tensor | None = None) -> CaptionTask:
    """Learn from rendered captions, with new free words each epoch."""

    @cache
    def captions(row: int, epoch: int) -> list[int]:
        return words.encode(data.caption(row, epoch))

    return CaptionTask(
        data.view(size.view), captions, words.prompt(size.image_tokens), words.image_token_id, EOS_ID, weights
    )


def number_weights(words: Words) -> torch.Tensor:
    """Token weights in which the numbers of buses count `_NUMBER_WEIGHT` times.

    They are 1 token in 100 while 15 in 100 are free words, whose noise drowns them: with equal weights a target of 32 layers had 0.97 of
    all slots right after 1,600 steps, and the numbers still at chance.
    """
    weights = torch.ones(words.vocab_size)
    for number in BUS_NUMBERS:
        weights[words.pieces.piece_to_id(f"▁{number}")] = _NUMBER_WEIGHT
    return weights


def share_of_slots(
    model: InternVLForConditionalGeneration, words: Words, size: Size, data: TrainingData, count: int
) -> float:
    """Share of slots right in free-running captions of the first `count` scenes of `data`."""
    said = greedy_captions(model, data.view(size.view)[:count], caption_task(words, size, data))
    marks = [
        right
        for index, ids in enumerate(said)
        for _, right in mark(read(words.decode(ids)), truth(scene_at(data.seed, index)))
    ]
    return sum(marks) / len(marks)


def learn(
    recipe: r.Recipe,
    report: Report,
    name: str,
    size: Size,
    model: InternVLForConditionalGeneration,
    task: CaptionTask,
    schedule: Schedule,
) -> None:
    """Train projector and language model of `model` on `task`; keep it as NAME.safetensors, its judgings as NAME.json."""
    words, held_out = Words(recipe.work / "tokenizer"), held_out_data(recipe)
    model.to(recipe.device)
    history = train_captions(
        model,
        task,
        schedule,
        recipe.work / f"{name}.checkpoint.pt",
        lambda m: share_of_slots(m, words, size, held_out, _JUDGED_SCENES),
        report,
    )
    save_file({k: v.detach().cpu().clone() for k, v in model.state_dict().items()}, recipe.work / f"{name}.safetensors")
    rows = [{"step": step, "loss": loss, "slots": slots} for step, loss, slots in history]
    (recipe.work / f"{name}.json").write_text(
        json.dumps({"history": rows, "schedule": asdict(schedule)}, indent=2) + "\n"
    )


def shallow(recipe: r.Recipe, report: Report) -> None:
    """The target at a third of its depth, from rendered captions."""
    model = new_caption_model(model_config(recipe, TARGET, r.SHALLOW_LAYERS), tower_of(recipe, "vision-target"), seed=0)
    words = Words(recipe.work / "tokenizer")
    task = caption_task(words, TARGET, train_data(recipe), number_weights(words))
    learn(recipe, report, "shallow", TARGET, model, task, Schedule(recipe.shallow_steps, judge_every=100))


def target(recipe: r.Recipe, report: Report) -> None:
    """The target at its full depth: starts as what the shallow one computes."""
    model = deepen(trained_model(recipe, "shallow", TARGET, r.SHALLOW_LAYERS), model_config(recipe, TARGET), seed=0)
    words = Words(recipe.work / "tokenizer")
    task = caption_task(words, TARGET, train_data(recipe), number_weights(words))
    learn(recipe, report, "target", TARGET, model, task, Schedule(recipe.target_steps, judge_every=100, seed=1))


def untaught(recipe: r.Recipe, report: Report) -> None:
    """The strong draft, from rendered captions."""
    words = Words(recipe.work / "tokenizer")
    task = caption_task(words, DRAFT, train_data(recipe), number_weights(words))
    _from_scenes(recipe, report, "untaught", DRAFT, task, recipe.untaught_steps)


def weak(recipe: r.Recipe, report: Report) -> None:
    """The weak draft, from rendered captions, and from nothing else."""
    task = caption_task(Words(recipe.work / "tokenizer"), WEAK_DRAFT, train_data(recipe))
    _from_scenes(recipe, report, "weak", WEAK_DRAFT, task, recipe.weak_steps)


def _from_scenes(recipe: r.Recipe, report: Report, name: str, size: Size, task: CaptionTask, steps: int) -> None:
    tower = {"untaught": "vision-draft", "weak": "vision-weak"}[name]
    model = new_caption_model(model_config(recipe, size), tower_of(recipe, tower), seed=0)
    learn(recipe, report, name, size, model, task, Schedule(steps))


def draft(recipe: r.Recipe, report: Report) -> None:
    """The strong draft goes on with the target's own captions, and takes over its wording."""
    model = trained_model(recipe, "untaught", DRAFT)
    schedule = Schedule(recipe.draft_steps, muon_lr=0.01, adam_lr=1e-3)
    learn(recipe, report, "draft", DRAFT, model, taught_task(recipe, DRAFT), schedule)


def tower_of(recipe: r.Recipe, stage: str) -> dict[str, torch.Tensor]:
    """The vision tower that a stage left."""
    weights: dict[str, torch.Tensor] = load_file(recipe.work / f"{stage}.safetensors")
    return weights


def model_config(recipe: r.Recipe, size: Size, layers: int | None = None) -> Any:
    """The transformers configuration of a model of `size`, with another number of layers if asked."""
    words = Words(recipe.work / "tokenizer")
    original = original_config(size, words.vocab_size)
    if layers is not None:
        original["llm_config"]["num_hidden_layers"] = layers
    return build_config(original, words.image_token_id)


def trained_model(
    recipe: r.Recipe, name: str, size: Size, layers: int | None = None
) -> InternVLForConditionalGeneration:
    """The model that stage `name` left."""
    model = new_caption_model(model_config(recipe, size, layers), None, seed=0)
    model.load_state_dict(load_file(recipe.work / f"{name}.safetensors"))
    return model.eval()


def said(recipe: r.Recipe, report: Report) -> None:
    """The target's own captions of training scenes, for the draft to learn from."""
    words, data = Words(recipe.work / "tokenizer"), train_data(recipe)
    model = trained_model(recipe, "target", TARGET).to(recipe.device)
    task, result = caption_task(words, TARGET, data), []
    for start in range(0, r.SAID_SCENES, 200):
        result += greedy_captions(model, data.view(TARGET.view)[start : start + 200], task, batch=200)
        report(start + 200, r.SAID_SCENES, "")
    (recipe.work / "said.json").write_text(json.dumps(result) + "\n")


def taught_task(recipe: r.Recipe, size: Size) -> CaptionTask:
    """Learn from the target's own captions."""
    words, data = Words(recipe.work / "tokenizer"), train_data(recipe)
    said_ids: list[list[int]] = json.loads((recipe.work / "said.json").read_text())
    view = data.view(size.view)[: len(said_ids)]
    return CaptionTask(
        view, lambda row, epoch: said_ids[row], words.prompt(size.image_tokens), words.image_token_id, EOS_ID
    )


STAGE_FUNCTIONS: dict[str, Stage] = {
    "scenes": scenes,
    "tokenizer": tokenizer,
    "vision-target": vision("vision-target", TARGET),
    "vision-draft": vision("vision-draft", DRAFT),
    "vision-weak": vision("vision-weak", WEAK_DRAFT),
    "shallow": shallow,
    "untaught": untaught,
    "weak": weak,
    "target": target,
    "said": said,
    "draft": draft,
}
