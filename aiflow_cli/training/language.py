"""Second stage: the projector and the language model learn captions over a frozen vision tower.

Loss is the cross-entropy of caption tokens only. Input and output embeddings are one tensor while training; the
checkpoint holds both, as InternVL2's does. Whether a model is good is judged by the slots of its free-running captions
(`images/captions.py`), never by the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

from aiflow_cli.training.data import Array, TrainingData
from aiflow_cli.training.optim import Optimiser, mixed_precision
from aiflow_cli.training.sizes import EOS_ID, Size
from aiflow_cli.training.vision import Report, normalise
from aiflow_cli.training.vocabulary import Words

History = list[tuple[int, float, float]]
"""(step, loss, slots right) at each judging."""
_OUTPUTS = ("o_proj.weight", "down_proj.weight")

Model: TypeAlias = InternVLForConditionalGeneration


@dataclass(frozen=True)
class CaptionTask:
    """What a model of `size` learns: the captions of the scenes of `data`, with new free words in each epoch.

    `said` are other captions for the first scenes, as token ids, to be learned alone. `weights` [vocabulary] says how
    much each token counts in the loss, all the same if None.
    """

    words: Words
    size: Size
    data: TrainingData
    weights: Tensor | None = None
    said: list[list[int]] | None = None

    @cached_property
    def view(self) -> Array:
        """The pictures, uint8 [n, side, side, 3]."""
        return self.data.view(self.size.view)[: None if self.said is None else len(self.said)]

    @cached_property
    def prompt(self) -> list[int]:
        """Token ids before the caption, image places included."""
        return self.words.prompt(self.size.image_tokens)

    def caption(self, row: int, epoch: int) -> list[int]:
        """Token ids of a caption, end token included."""
        return self.words.encode(self.data.caption(row, epoch)) if self.said is None else self.said[row]


def new_caption_model(config: Any, tower_state: dict[str, Tensor] | None, seed: int) -> Model:
    """A trained tower and a fresh language model; matrices start at 0.5 / sqrt(width), outputs smaller with depth."""
    torch.manual_seed(seed)
    config.text_config._attn_implementation = config.vision_config._attn_implementation = "eager"
    model = Model(config)
    text = model.model.language_model
    width, depth = config.text_config.hidden_size, config.text_config.num_hidden_layers
    for name, p in text.layers.named_parameters():
        if p.ndim == 2:
            out = name.endswith(_OUTPUTS)
            nn.init.normal_(p, std=0.5 / math.sqrt(width) / (math.sqrt(2 * depth) if out else 1.0))
    nn.init.normal_(text.embed_tokens.weight, std=0.04)
    model.lm_head.weight = text.embed_tokens.weight
    if tower_state is not None:
        model.model.vision_tower.load_state_dict(tower_state)
    model.model.vision_tower.requires_grad_(False).eval()
    return model


def caption_logits(model: Model, pixels: Tensor, ids: Tensor, task: CaptionTask) -> Tensor:
    """Logits of each token of the captions `ids` [n, length], given those before it: [n, length, vocabulary]."""
    text, prompt = model.model.language_model, torch.tensor([task.prompt], device=pixels.device)
    start = text.embed_tokens(prompt).expand(len(pixels), -1, -1).clone()
    image = model.get_image_features(pixels, vision_feature_layer=-1, vision_feature_select_strategy="default")
    start[:, (prompt[0] == task.words.image_token_id).nonzero()[:, 0]] = image.pooler_output.to(start.dtype)
    embedded = torch.cat((start, text.embed_tokens(ids[:, :-1].clamp(min=0))), 1)
    hidden = text(inputs_embeds=embedded, use_cache=False).last_hidden_state
    logits: Tensor = model.lm_head(hidden[:, len(task.prompt) - 1 :])
    return logits


@torch.inference_mode()
def greedy_captions(
    model: Model, view: Array, task: CaptionTask, max_new: int = 96, batch: int = 100
) -> list[list[int]]:
    """Greedy captions of all pictures of `view`, end token included, in batches."""
    device = model.lm_head.weight.device
    result: list[list[int]] = []
    for start in range(0, len(view), batch):
        pixels = normalise(view[start : start + batch], str(device))
        prompts = torch.tensor([task.prompt], device=device).expand(len(pixels), -1)
        ids = model.generate(
            input_ids=prompts,
            pixel_values=pixels,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=max_new,
            do_sample=False,
            eos_token_id=EOS_ID,
            pad_token_id=EOS_ID,
        )
        for row in ids[:, len(task.prompt) :].tolist():  # those that end before others of the batch are filled up
            result.append(row[: row.index(EOS_ID) + 1] if EOS_ID in row else row)
    return result


@dataclass(frozen=True)
class Schedule:
    """How long and how hard: optimiser steps, batch size, learning rates, seed, and how often to judge and save."""

    steps: int
    batch: int = 32
    muon_lr: float = 0.02
    adam_lr: float = 2e-3
    seed: int = 0
    judge_every: int = 200


def train_captions(
    model: Model,
    task: CaptionTask,
    schedule: Schedule,
    checkpoint: Path,
    judge: Callable[[Model], float],
    report: Report,
) -> History:
    """Train projector and language model; returns (step, loss, slots right) at each judging, where it is saved too.

    Goes on from `checkpoint` if it is there. `judge` gives the share of slots right; the last state is kept, since the
    learning rate has decayed to almost nothing by then.
    """
    parts = {"projector": model.model.multi_modal_projector, "language_model": model.model.language_model}
    optimiser = Optimiser(parts, schedule.steps, schedule.muon_lr, schedule.adam_lr)
    start, history = _resume(model, optimiser, checkpoint)
    for step in range(start, schedule.steps):
        optimiser.learn(_loss_at(model, task, schedule, step), step)
        if (step + 1) % 10 == 0:
            slots = f", slots {history[-1][2]:.3f}" if history else ""
            report(step + 1, schedule.steps, f"loss {optimiser.running:.3f}{slots}")
        if (step + 1) % schedule.judge_every == 0 or step + 1 == schedule.steps:
            history.append((step + 1, optimiser.running, judge(model.eval())))
            _save(model, optimiser, checkpoint, step + 1, history)
    model.eval()
    return history


def _loss_at(model: Model, task: CaptionTask, schedule: Schedule, step: int) -> Tensor:
    """Weighted mean cross-entropy over the captions of one step's batch (padding on the right: attention is causal).

    Each epoch permutes all scenes. (Batches of one length save padding, but learn slower.)
    """
    model.train()
    model.model.vision_tower.eval()
    epoch, within = divmod(step, len(task.view) // schedule.batch)
    order = np.random.default_rng((schedule.seed, epoch)).permutation(len(task.view))
    rows = sorted(order[within * schedule.batch : (within + 1) * schedule.batch].tolist())
    captions, device = [task.caption(row, epoch) for row in rows], model.lm_head.weight.device
    longest = max(map(len, captions))
    ids = torch.tensor([c + [-100] * (longest - len(c)) for c in captions], device=device)
    weights = None if task.weights is None else task.weights.to(device)
    with mixed_precision(str(device)):
        logits = caption_logits(model, normalise(task.view[rows], str(device)), ids, task)
        return F.cross_entropy(logits.flatten(0, 1).float(), ids.flatten(), weights, ignore_index=-100)


def _save(model: Model, optimiser: Optimiser, path: Path, step: int, history: History) -> None:
    states = [part.state_dict() for part in optimiser.parts]
    partial = path.with_suffix(".partial")
    torch.save({"model": model.state_dict(), "optimiser": states, "step": step, "history": history}, partial)
    partial.replace(path)


def _resume(model: Model, optimiser: Optimiser, path: Path) -> tuple[int, History]:
    if not path.exists():
        return 0, []
    saved = torch.load(path, weights_only=True)
    model.load_state_dict(saved["model"])
    for part, state in zip(optimiser.parts, saved["optimiser"], strict=True):
        part.load_state_dict(state)
    return saved["step"], saved["history"]


def deepen(shallow: Model, config: Any, seed: int) -> Model:
    """A deeper model that computes the same: each layer is followed by copies of it whose outputs start at zero.

    Training then starts where the shallow model stood, at a third of the cost; what the added layers learn, the model
    card reports (accuracy without each layer). The depth must be a multiple of the shallow one's.
    """
    deep = new_caption_model(config, None, seed)
    factor = config.text_config.num_hidden_layers // len(shallow.model.language_model.layers)
    state: dict[str, Tensor] = {}
    for name, value in shallow.state_dict().items():
        before, layers, after = name.partition("language_model.layers.")
        index, _, inner = after.partition(".")
        for copy in range(factor if layers else 1):
            place = f"{before}{layers}{int(index) * factor + copy}.{inner}" if layers else name
            state[place] = torch.zeros_like(value) if copy and inner.endswith(_OUTPUTS) else value
    deep.load_state_dict(state)
    return deep
