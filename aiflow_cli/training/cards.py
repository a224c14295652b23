"""Model cards of the small pair: what was measured, and how the model was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import StrictUndefined, Template

from aiflow_cli.training.evaluate import Evaluation
from aiflow_cli.training.recipe import TRAIN_SEED, VISION_BATCH, Recipe
from aiflow_cli.training.sizes import DRAFT, TARGET, WEAK_DRAFT, Size

_GAMMAS = (1, 2, 4, 6, 8, 12, 16, 20, 28)
_PAIR_OF = {TARGET.folder: "small", DRAFT.folder: "small", WEAK_DRAFT.folder: "small-weak"}
_STAGES_OF = {
    TARGET.folder: ("vision-target", "shallow", "target"),
    DRAFT.folder: ("vision-draft", "untaught", "draft"),
    WEAK_DRAFT.folder: ("vision-weak", "weak"),
}


@dataclass(frozen=True)
class LayerWorth:
    """Without one layer: share of the model's own tokens still predicted, and of caption slots still right."""

    layer: int
    tokens: float
    slots: float


def model_card(
    recipe: Recipe, size: Size, parameters: int, evaluations: Mapping[str, Evaluation], worth: Sequence[LayerWorth]
) -> str:
    """The README.md of one checkpoint."""
    source = (resources.files("aiflow_cli.training") / "card.md").read_text("utf-8")
    template = Template(source, trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
    evaluation = evaluations[_PAIR_OF[size.folder]]
    card = template.render(
        recipe=recipe,
        size=size,
        parameters=parameters,
        stages={name: recipe.noted(name) for name in _STAGES_OF[size.folder]},
        evaluation=evaluation,
        quality=evaluation.target if size is TARGET else evaluation.draft,
        worth=worth,
        gammas=_GAMMAS,
        train_seed=TRAIN_SEED,
        vision_batch=VISION_BATCH,
    )
    return str(card)
