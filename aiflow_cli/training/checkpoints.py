"""From trained stages to checkpoints in the original InternVL2 layout, each with a card: what was measured, and how it
was made.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import torch
from jinja2 import StrictUndefined, Template

from aiflow_cli.models.internvl2 import save_checkpoint
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.training.evaluate import Evaluation, evaluate_pair
from aiflow_cli.training.language import caption_logits, greedy_captions
from aiflow_cli.training.recipe import TRAIN_SEED, VISION_BATCH, Recipe
from aiflow_cli.training.sizes import DRAFT, EOS_ID, QUESTION, TARGET, WEAK_DRAFT, Size, original_config
from aiflow_cli.training.stages import held_out_task, share_of_slots, trained_model
from aiflow_cli.training.vision import normalise
from aiflow_cli.training.vocabulary import Words

PAIRS = {"small": DRAFT, "small-weak": WEAK_DRAFT}
STAGES_OF = {
    TARGET: ("vision-target", "shallow", "target"),
    DRAFT: ("vision-draft", "untaught", "draft"),
    WEAK_DRAFT: ("vision-weak", "weak"),
}
"""The stages that made each model; the last one left it."""
_PROBED_SCENES = 60
_GAMMAS = (1, 2, 4, 6, 8, 12, 16, 20, 28)


class LayerWorth(NamedTuple):
    """Without one layer: share of the model's own tokens still predicted, and of caption slots still right."""

    layer: int
    tokens: float
    slots: float


def finish_pair(recipe: Recipe, folder: Path, scenes: int, say: Callable[[str], None]) -> dict[str, Evaluation]:
    """Write all checkpoints with their cards to `folder`; the evaluation of each pair on `scenes` held-out scenes.

    A checkpoint is weights in bfloat16, config.json, and the tokenizer that all three share.
    """
    vocab_size, generation = Words(recipe.tokenizer).vocab_size, {"eos_token_id": EOS_ID, "max_new_tokens": 96}
    loaded: dict[Size, VisionLanguageModel] = {}
    for size, stages in STAGES_OF.items():
        say(f"writing {size.folder}")
        place = folder / size.folder
        save_checkpoint(trained_model(recipe, stages[-1], size), original_config(size, vocab_size), place)
        shutil.copytree(recipe.tokenizer, place, dirs_exist_ok=True)
        document = json.dumps(generation | {"do_sample": False}, indent=2) + "\n"
        (place / "generation_config.json").write_text(document, encoding="utf-8")
        loaded[size] = VisionLanguageModel.from_folder(place)
    evaluations: dict[str, Evaluation] = {}
    for name, draft in PAIRS.items():
        say(f"evaluating pair {name} on {scenes} held-out scenes")
        evaluations[name] = evaluate_pair(loaded[TARGET], loaded[draft], QUESTION, scenes)
    say("measuring what each of the target's layers is worth")
    worth = layer_worth(recipe)
    for size, model in loaded.items():
        card = model_card(recipe, size, model.parameters, evaluations, worth)
        (folder / size.folder / "README.md").write_text(card, encoding="utf-8")
    return evaluations


@torch.inference_mode()
def layer_worth(recipe: Recipe) -> list[LayerWorth]:
    """The target without each of its layers in turn, on held-out scenes: does every layer earn its place?"""
    model, task = trained_model(recipe, "target", TARGET), held_out_task(recipe, TARGET)
    view = task.view[:_PROBED_SCENES]
    pixels, own = normalise(view), [torch.tensor([ids]) for ids in greedy_captions(model, view, task)]
    result = []
    for index, layer in enumerate(model.model.language_model.layers):
        with layer.register_forward_hook(lambda layer, inputs, output: inputs[0]):  # it hands on what it was given
            logits = [caption_logits(model, pixels[row : row + 1], ids, task) for row, ids in enumerate(own)]
            slots = share_of_slots(model, task, len(view))
        right = sum(int((of_one.argmax(-1) == ids).sum()) for of_one, ids in zip(logits, own, strict=True))
        result.append(LayerWorth(index, right / sum(ids.numel() for ids in own), slots))
    return result


def model_card(
    recipe: Recipe, size: Size, parameters: int, evaluations: Mapping[str, Evaluation], worth: Sequence[LayerWorth]
) -> str:
    """The README.md of one checkpoint."""
    source = (resources.files("aiflow_cli.training") / "card.md").read_text("utf-8")
    template = Template(source, trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
    evaluation = evaluations["small-weak" if size is WEAK_DRAFT else "small"]
    card = template.render(
        recipe=recipe,
        size=size,
        parameters=parameters,
        stages={name: recipe.noted(name) for name in STAGES_OF[size]},
        evaluation=evaluation,
        quality=evaluation.target if size is TARGET else evaluation.draft,
        worth=worth,
        gammas=_GAMMAS,
        train_seed=TRAIN_SEED,
        vision_batch=VISION_BATCH,
    )
    return str(card)
