"""From trained stages to checkpoints in the original InternVL2 layout, each with its model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import InternVLForConditionalGeneration

from aiflow_cli.images.captions import mark, read, truth
from aiflow_cli.images.scenes import scene_at
from aiflow_cli.models.internvl2 import save_checkpoint
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.training.cards import model_card
from aiflow_cli.training.evaluate import Evaluation, evaluate_pair
from aiflow_cli.training.language import CaptionTask, greedy_captions, prompt_embeddings
from aiflow_cli.training.recipe import Recipe
from aiflow_cli.training.sizes import DRAFT, QUESTION, TARGET, WEAK_DRAFT, Size, original_config
from aiflow_cli.training.stages import Words, caption_task, held_out_data, trained_model
from aiflow_cli.training.vision import normalise

MODELS: dict[str, Size] = {"target": TARGET, "draft": DRAFT, "weak": WEAK_DRAFT}
"""The last stage of each model -> its size."""
PAIRS = {"small": DRAFT, "small-weak": WEAK_DRAFT}
_PROBED_SCENES = 60


@dataclass(frozen=True)
class LayerWorth:
    """What is left without one layer: share of the model's own tokens still predicted, and of caption slots still right."""

    layer: int
    tokens: float
    slots: float


def finish_pair(recipe: Recipe, folder: Path, scenes: int, say: Callable[[str], None]) -> dict[str, Evaluation]:
    """Write all checkpoints with their cards to `folder`; returns the evaluation of each pair on `scenes` held-out scenes."""
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
    for stage, size in MODELS.items():
        card = model_card(recipe, stage, size, loaded[size.folder].parameters, evaluations, worth)
        (folder / size.folder / "README.md").write_text(card, encoding="utf-8")
    return evaluations


def write_checkpoint(recipe: Recipe, stage: str, size: Size, folder: Path) -> None:
    """The checkpoint of one model: weights in bfloat16, config.json, and the tokenizer that all three share."""
    words = Words(recipe.work / "tokenizer")
    save_checkpoint(trained_model(recipe, stage, size), original_config(size, words.vocab_size), folder)
    for path in (recipe.work / "tokenizer").iterdir():
        shutil.copy(path, folder / path.name)
    generation = {"eos_token_id": 2, "max_new_tokens": 96, "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")


def layer_worth(recipe: Recipe) -> list[LayerWorth]:
    """The target without each of its layers in turn, on held-out scenes: does every layer earn its place?"""
    words, data = Words(recipe.work / "tokenizer"), held_out_data(recipe)
    model = trained_model(recipe, "target", TARGET)
    task = caption_task(words, TARGET, data)
    view = data.view(TARGET.view)[:_PROBED_SCENES]
    own = greedy_captions(model, view, task)
    layers = model.model.language_model.layers
    result = []
    for index in range(len(layers)):
        removed = layers[index]
        layers[index] = _Identity()
        said = greedy_captions(model, view, task)
        marks = [
            right
            for i, ids in enumerate(said)
            for _, right in mark(read(words.decode(ids)), truth(scene_at(data.seed, i)))
        ]
        result.append(LayerWorth(index, _token_share(model, task, own), sum(marks) / len(marks)))
        layers[index] = removed
    return result


class _Identity(torch.nn.Module):
    def forward(self, hidden: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return hidden


def _token_share(model: InternVLForConditionalGeneration, task: CaptionTask, captions: list[list[int]]) -> float:
    """Share of `captions`' tokens that the model predicts, given those before."""
    right = total = 0
    pixels = normalise(task.view[: len(captions)])
    with torch.inference_mode():
        for row, caption in enumerate(captions):
            predicted = caption_predictions(model, pixels[row : row + 1], caption, task)
            right += sum(a == b for a, b in zip(predicted, caption, strict=True))
            total += len(caption)
    return right / total


def caption_predictions(
    model: InternVLForConditionalGeneration, pixels: torch.Tensor, caption: list[int], task: CaptionTask
) -> list[int]:
    """The model's most likely token at each place of `caption`, given the caption before it."""
    prompt = prompt_embeddings(model, pixels, task)
    embedded = model.model.language_model.embed_tokens(torch.tensor([caption[:-1]]))
    hidden = model.model.language_model(
        inputs_embeds=torch.cat((prompt, embedded), 1), use_cache=False
    ).last_hidden_state
    predicted: list[int] = model.lm_head(hidden[0, prompt.shape[1] - 1 :]).argmax(-1).tolist()
    return predicted
