"""From trained stages to checkpoints in the original InternVL2 layout, each with its model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from aiflow_cli.models.internvl2 import save_checkpoint
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.training.cards import LayerWorth, model_card
from aiflow_cli.training.evaluate import Evaluation, evaluate_pair
from aiflow_cli.training.language import CaptionTask, Model, caption_logits, greedy_captions
from aiflow_cli.training.recipe import Recipe
from aiflow_cli.training.sizes import DRAFT, QUESTION, TARGET, WEAK_DRAFT, Size, original_config
from aiflow_cli.training.stages import caption_task, held_out_data, share_of_slots, trained_model
from aiflow_cli.training.vision import normalise
from aiflow_cli.training.vocabulary import Words

MODELS: dict[str, Size] = {"target": TARGET, "draft": DRAFT, "weak": WEAK_DRAFT}
"""The last stage of each model -> its size."""
PAIRS = {"small": DRAFT, "small-weak": WEAK_DRAFT}
_PROBED_SCENES = 60


def finish_pair(recipe: Recipe, folder: Path, scenes: int, say: Callable[[str], None]) -> dict[str, Evaluation]:
    """Write all checkpoints with their cards to `folder`; the evaluation of each pair on `scenes` held-out scenes."""
    for stage, size in MODELS.items():
        say(f"writing {size.folder}")
        write_checkpoint(recipe, stage, size, folder / size.folder)
    loaded = {size.folder: VisionLanguageModel.from_folder(folder / size.folder) for size in MODELS.values()}
    evaluations: dict[str, Evaluation] = {}
    for name, draft in PAIRS.items():
        say(f"evaluating pair {name} on {scenes} held-out scenes")
        evaluations[name] = evaluate_pair(loaded[TARGET.folder], loaded[draft.folder], QUESTION, scenes)
    say("measuring what each of the target's layers is worth")
    worth = layer_worth(recipe)
    for size in MODELS.values():
        card = model_card(recipe, size, loaded[size.folder].parameters, evaluations, worth)
        (folder / size.folder / "README.md").write_text(card, encoding="utf-8")
    return evaluations


def write_checkpoint(recipe: Recipe, stage: str, size: Size, folder: Path) -> None:
    """The checkpoint of one model: weights in bfloat16, config.json, and the tokenizer that all three share."""
    config = original_config(size, Words(recipe.tokenizer).vocab_size)
    save_checkpoint(trained_model(recipe, stage, size), config, folder)
    for path in recipe.tokenizer.iterdir():
        shutil.copy(path, folder / path.name)
    generation = {"eos_token_id": 2, "max_new_tokens": 96, "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")


def layer_worth(recipe: Recipe) -> list[LayerWorth]:
    """The target without each of its layers in turn, on held-out scenes: does every layer earn its place?"""
    words, data = Words(recipe.tokenizer), held_out_data(recipe)
    scenes = min(_PROBED_SCENES, data.count)
    model, task = trained_model(recipe, "target", TARGET), caption_task(words, TARGET, data)
    own = greedy_captions(model, data.view(TARGET.view)[:scenes], task)
    layers, result = model.model.language_model.layers, []
    for index, removed in enumerate(list(layers)):
        layers[index] = _Identity()
        slots = share_of_slots(model, words, TARGET, data, scenes)
        result.append(LayerWorth(index, _token_share(model, task, own), slots))
        layers[index] = removed
    return result


class _Identity(torch.nn.Module):
    def forward(self, hidden: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return hidden


@torch.inference_mode()
def _token_share(model: Model, task: CaptionTask, captions: list[list[int]]) -> float:
    """Share of `captions`' tokens that the model predicts, given those before."""
    pixels, right = normalise(task.view[: len(captions)]), 0
    for row, caption in enumerate(captions):
        ids = torch.tensor([caption])
        right += int((caption_logits(model, pixels[row : row + 1], ids, task).argmax(-1) == ids).sum())
    return right / sum(map(len, captions))
