"""Second stage: the projector and the language model learn captions over a frozen vision tower.

Loss is the cross-entropy of caption tokens only. Input and output embeddings are one tensor while training; the
checkpoint holds both, as InternVL2's does. Whether a model is good is judged by the slots of its free-running captions
(`images/captions.py`), never by the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration
from transformers.cache_utils import DynamicCache

from aiflow_cli.training.data import GRID
from aiflow_cli.training.optim import Optimiser, mixed_precision
from aiflow_cli.training.vision import Report, normalise

History = list[tuple[int, float, float]]
"""(step, loss, slots right) at each judging."""
_OUTPUTS = ("o_proj.weight", "down_proj.weight")

Model: TypeAlias = InternVLForConditionalGeneration


@dataclass(frozen=True)
class CaptionTask:
    """What a caption model is trained on.

    `view` uint8 [n, side, side, 3]; `captions(row, epoch)` gives token ids with the end token; `prompt_ids` those
    before the caption, image places (`image_token_id`) included; `weights` [vocabulary] says how much each token counts
    in the loss, all the same if None.
    """

    view: npt.NDArray[np.uint8]
    captions: Callable[[int, int], list[int]]
    prompt_ids: Sequence[int]
    image_token_id: int
    end_id: int
    weights: Tensor | None = None


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


def image_embeddings(model: Model, pixels: Tensor) -> Tensor:
    """What stands in the image places of the prompt: [n, 16, width]; the tower gets no gradient."""
    inner = model.model
    with torch.no_grad():
        hidden = inner.vision_tower(pixel_values=pixels).last_hidden_state[:, 1:]
        n, _, h = hidden.shape
        shuffled = inner.pixel_shuffle(hidden.view(n, GRID, GRID, h), scale_factor=0.5).reshape(n, -1, 4 * h)
    projected: Tensor = inner.multi_modal_projector(shuffled)
    return projected


def prompt_embeddings(model: Model, pixels: Tensor, task: CaptionTask) -> Tensor:
    """Embeddings of the prompt with the image in it: [n, prompt, width]."""
    ids = torch.tensor([list(task.prompt_ids)], device=pixels.device)
    embedded: Tensor = model.model.language_model.embed_tokens(ids).expand(len(pixels), -1, -1).clone()
    embedded[:, (ids[0] == task.image_token_id).nonzero()[:, 0]] = image_embeddings(model, pixels).to(embedded.dtype)
    return embedded


def caption_logits(model: Model, pixels: Tensor, ids: Tensor, task: CaptionTask) -> Tensor:
    """Logits of each token of the captions `ids` [n, length], given those before it: [n, length, vocabulary]."""
    prompt = prompt_embeddings(model, pixels, task)
    text = model.model.language_model
    embedded = torch.cat((prompt, text.embed_tokens(ids[:, :-1].clamp(min=0))), 1)
    hidden = text(inputs_embeds=embedded, use_cache=False).last_hidden_state
    logits: Tensor = model.lm_head(hidden[:, prompt.shape[1] - 1 :])
    return logits


def caption_loss(model: Model, pixels: Tensor, captions: list[list[int]], task: CaptionTask) -> Tensor:
    """Weighted mean cross-entropy over the tokens of `captions` (padding on the right: attention is causal)."""
    longest = max(map(len, captions))
    ids = torch.tensor([c + [-100] * (longest - len(c)) for c in captions], device=pixels.device)
    logits = caption_logits(model, pixels, ids, task)
    weights = task.weights.to(logits.device) if task.weights is not None else None
    return F.cross_entropy(logits.flatten(0, 1).float(), ids.flatten(), weights, ignore_index=-100)


@torch.inference_mode()
def greedy_captions(
    model: Model, view: npt.NDArray[np.uint8], task: CaptionTask, max_new: int = 96, batch: int = 100
) -> list[list[int]]:
    """Greedy captions of all pictures of `view`, end token included, in batches."""
    device, text = model.lm_head.weight.device, model.model.language_model
    result: list[list[int]] = []
    for start in range(0, len(view), batch):
        inputs = prompt_embeddings(model, normalise(view[start : start + batch], str(device)), task)
        cache = DynamicCache()
        rows: list[list[int]] = [[] for _ in range(len(inputs))]
        for _ in range(max_new):
            hidden = text(inputs_embeds=inputs, past_key_values=cache, use_cache=True).last_hidden_state
            chosen = model.lm_head(hidden[:, -1]).argmax(-1)
            for row, token in zip(rows, chosen.tolist(), strict=True):
                if not row or row[-1] != task.end_id:
                    row.append(token)
            if all(row[-1] == task.end_id for row in rows):
                break
            inputs = text.embed_tokens(chosen)[:, None]
        result += rows
    return result


def batch_rows(step: int, batch: int, count: int, seed: int) -> tuple[list[int], int]:
    """Rows and epoch of one step; each epoch permutes all. (Batches of one length save padding, but learn slower.)"""
    epoch, within = divmod(step, count // batch)
    order = np.random.default_rng((seed, epoch)).permutation(count)
    return sorted(int(row) for row in order[within * batch : (within + 1) * batch]), epoch


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
    parts = (("projector", model.model.multi_modal_projector), ("language_model", model.model.language_model))
    optimiser = Optimiser(parts, schedule.steps, schedule.muon_lr, schedule.adam_lr)
    device = str(model.lm_head.weight.device)
    start, history = _resume(model, optimiser, checkpoint)
    running = float("nan")
    for step in range(start, schedule.steps):
        rows, epoch = batch_rows(step, schedule.batch, len(task.view), schedule.seed)
        model.train()
        model.model.vision_tower.eval()
        captions = [task.captions(r, epoch) for r in rows]
        with mixed_precision(device):
            loss = caption_loss(model, normalise(task.view[rows], device), captions, task)
        loss.backward()
        optimiser.step(step)
        running = loss.item() if math.isnan(running) else 0.95 * running + 0.05 * loss.item()
        if (step + 1) % 10 == 0:
            slots = f", slots {history[-1][2]:.3f}" if history else ""
            report(step + 1, schedule.steps, f"loss {running:.3f}{slots}")
        if (step + 1) % schedule.judge_every == 0 or step + 1 == schedule.steps:
            model.eval()
            history.append((step + 1, running, judge(model)))
            _save(model, optimiser, checkpoint, step + 1, history)
    model.eval()
    return history


def _save(model: nn.Module, optimiser: Optimiser, path: Path, step: int, history: History) -> None:
    partial = path.with_suffix(".partial")
    torch.save({"model": model.state_dict(), "optimiser": optimiser.state(), "step": step, "history": history}, partial)
    partial.replace(path)


def _resume(model: nn.Module, optimiser: Optimiser, path: Path) -> tuple[int, History]:
    if not path.exists():
        return 0, []
    saved = torch.load(path, weights_only=True)
    model.load_state_dict(saved["model"])
    optimiser.load_state(saved["optimiser"])
    return saved["step"], saved["history"]


def deepen(shallow: Model, config: Any, seed: int) -> Model:
    """A deeper model that computes the same: each layer is followed by copies of it whose outputs start at zero.

    Training then starts where the shallow model stood, at a third of the cost; what the added layers learn, the model
    card reports (accuracy without each layer).
    """
    deep = new_caption_model(config, None, seed)
    factor, rest = divmod(config.text_config.num_hidden_layers, len(shallow.model.language_model.layers))
    if rest:
        raise ValueError("the deeper model must have a multiple of the shallow one's layers")
    state: dict[str, Tensor] = {}
    for name, value in shallow.state_dict().items():
        prefix, layers, tail = name.partition("language_model.layers.")
        if not layers:
            state[name] = value
            continue
        index, _, inner = tail.partition(".")
        added = torch.zeros_like(value) if inner.endswith(_OUTPUTS) else value
        for copy in range(factor):
            state[f"{prefix}{layers}{int(index) * factor + copy}.{inner}"] = added if copy else value
    deep.load_state_dict(state)
    return deep
