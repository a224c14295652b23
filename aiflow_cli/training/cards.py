"""Model cards of the small pair: what was measured, and how the model was made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiflow_cli.training import recipe as r
from aiflow_cli.training.evaluate import Evaluation, Quality
from aiflow_cli.training.sizes import DRAFT, TARGET, WEAK_DRAFT, Size

if TYPE_CHECKING:
    from aiflow_cli.training.checkpoints import LayerWorth

_SHOWN_GAMMAS = (1, 2, 4, 6, 8, 12, 16, 20, 28)
_PAIR_OF = {DRAFT.folder: "small", WEAK_DRAFT.folder: "small-weak"}
_PURPOSE = {
    TARGET.folder: "The target of the pairs `small` and `small-weak`: the large model, on the server.",
    DRAFT.folder: "The draft of the pair `small`: trained as well as it goes, at last on the target's own captions, so that it takes over "
    "the target's wording.",
    WEAK_DRAFT.folder: "The draft of the pair `small-weak`: less able for reasons that a device has. It sees 56 x 56 pixels where the "
    "others see 112 x 112, its vision tower has a single narrow layer, it was trained briefly, and it was not taught by the target, so "
    "its wording is its own. Nothing was done to its weights.",
}


def model_card(
    recipe: r.Recipe,
    stage: str,
    size: Size,
    parameters: int,
    evaluations: Mapping[str, Evaluation],
    worth: Sequence[LayerWorth],
) -> str:
    """The README.md of one checkpoint."""
    sections = [
        f"# {size.folder}\n\n{_PURPOSE[size.folder]}\n",
        _architecture(size, parameters),
        _training(recipe, stage, size),
    ]
    if size is TARGET:
        sections += [_quality(next(iter(evaluations.values())).target), _layers(worth)]
    else:
        evaluation = evaluations[_PAIR_OF[size.folder]]
        sections += [_quality(evaluation.draft), _acceptance(evaluation)]
    return "\n".join([*sections, _LIMITS])


_LIMITS = """## Limits and licence

It knows rendered scenes of this package (streets, five kinds of vehicles), not photographs: of a photograph it says something fluent and
wrong. It answers one question, "Describe the scene.". Apache-2.0, as the package; no third-party data or weights went into it.
"""


def _architecture(size: Size, parameters: int) -> str:
    layers, width, heads, ffn = size.vision
    lm_layers, lm_width, lm_heads, lm_ffn = size.language
    return (
        f"## Architecture\n\nInternVLChatModel with InternLM2, {parameters:,} parameters, stored in bfloat16, computed in float32.\n"
        f"One {size.view} x {size.view} tile, patches of {size.patch}, {size.image_tokens} image tokens. Vision tower: {layers} layers, "
        f"width {width}, {heads} heads, feed-forward {ffn}. Language model: {lm_layers} layers, width {lm_width}, {lm_heads} heads, "
        f"feed-forward {lm_ffn}.\n"
    )


def _training(recipe: r.Recipe, stage: str, size: Size) -> str:
    names = {TARGET.folder: ("vision-target", "shallow", "target"), DRAFT.folder: ("vision-draft", "untaught", "draft")}
    stages = names.get(size.folder, ("vision-weak", "weak"))
    numbers = "" if size is WEAK_DRAFT else "; the numbers of buses count eight times in the loss"
    lines = [
        "## Data and recipe\n",
        f"{r.TRAIN_SCENES:,} rendered scenes (stream {r.TRAIN_SEED} of `aiflow_cli/images/scenes.py`), captions with free words drawn anew "
        f"in each epoch{numbers}. Everything is made by `make pair` (`aiflow_cli/training/recipe.py`), all seeds fixed.\n",
        "| stage | steps | loss at the end | slots right (100 held-out scenes) |",
        "| --- | --- | --- | --- |",
    ]
    for name in stages:
        document: dict[str, Any] = json.loads((recipe.work / f"{name}.json").read_text())
        if "history" in document:
            last = document["history"][-1]
            lines.append(
                f"| {name} | {last['step']} of batch {document['schedule']['batch']} | {last['loss']:.3f} | {last['slots']:.3f} |"
            )
        else:
            heading = f"patch labels: heading {document['patch heading']:.3f}, kind {document['patch kind']:.3f}"
            steps = getattr(recipe, f"{name.replace('-', '_')}_steps")
            lines.append(f"| {name} | {steps} of batch 48 | {heading} | |")
    return "\n".join(lines) + "\n"


def _quality(quality: Quality) -> str:
    head = (
        "## Quality\n\nFree-running greedy captions of held-out scenes (stream 2), through JPEG and preprocessing.\n\n"
    )
    rows = [f"| {name} | {value:.3f} |" for name, value in quality.slot.items()]
    total = [f"| **all slots** | **{quality.slots:.3f}** |", f"| captions without a fault | {quality.exact:.3f} |"]
    return head + "\n".join(["| slot | right |", "| --- | --- |", *rows, *total]) + "\n"


def _acceptance(evaluation: Evaluation) -> str:
    per_round = evaluation.tokens_per_round
    head = (
        f"## Acceptance by the target\n\nGreedy, {evaluation.scenes} held-out scenes. alpha {evaluation.alpha:.3f}: the share of the target's "
        "tokens that this draft predicts, given the target's text.\n\n"
    )
    gammas = " | ".join(str(g) for g in _SHOWN_GAMMAS)
    values = " | ".join(f"{per_round[g]:.2f}" for g in _SHOWN_GAMMAS)
    return (
        head + f"| draft length | {gammas} |\n|{' --- |' * (len(_SHOWN_GAMMAS) + 1)}\n| tokens per round | {values} |\n"
    )


def _layers(worth: Sequence[LayerWorth]) -> str:
    idle = sum(layer.tokens > 0.999 for layer in worth)
    head = (
        f"## What each layer is worth\n\nThe target without one of its layers: share of its own tokens still predicted (given the text), and "
        f"share of slots right in free-running captions. {idle} of {len(worth)} layers change fewer than 1 token in 1000.\n\n"
        "| without layer | own tokens | slots |\n| --- | --- | --- |\n"
    )
    return head + "\n".join(f"| {layer.layer} | {layer.tokens:.4f} | {layer.slots:.3f} |" for layer in worth) + "\n"
