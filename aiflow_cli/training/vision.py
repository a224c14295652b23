"""First stage: a vision tower learns what the renderer knows of every patch, then its heads are dropped.

A caption model that has to find out by itself where to look needs far more pictures than two cores can show it; a tower
that can already tell the kind, colour and heading of the vehicle in a patch leaves it only the language to learn. Patch
heads read the tower's outputs, block heads read each group of 2 x 2 patches, as pixel shuffle will hand them to the
projector.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.internvl.modeling_internvl import InternVLVisionModel

from aiflow_cli.models.preprocessing import MEAN, STD
from aiflow_cli.training.data import GRID, PATCH_FIELDS, SCENE_FIELDS, Array, TrainingData
from aiflow_cli.training.optim import Optimiser, mixed_precision
from aiflow_cli.training.recipe import VISION_BATCH

_BACKGROUND_WEIGHT = 0.25
_BLOCK_WEIGHT = 0.3

Report = Callable[[int, int, str], None]
"""`report(done, total, note)`."""
Logits = dict[str, Tensor]
"""By the name of what is read."""


class LabelledTower(nn.Module):
    """A fresh vision tower, and linear readings of its outputs that are only needed while it learns."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        config._attn_implementation = "eager"
        self.tower = InternVLVisionModel(config)
        for name, p in self.tower.named_parameters():
            if "position_embeddings" in name or "cls_token" in name:  # transformers leaves them at zero: slow to learn
                nn.init.normal_(p, std=0.02)
            elif "lambda" in name:
                nn.init.ones_(p)
        width = config.hidden_size
        self.patch_norm, self.block_norm = nn.LayerNorm(width), nn.LayerNorm(4 * width)
        self.patch = nn.Linear(width, sum(PATCH_FIELDS.values()))
        self.block = nn.Linear(4 * width, sum(SCENE_FIELDS.values()))

    def forward(self, pixels: Tensor) -> tuple[Logits, Logits]:
        """Logits from [n, 3, side, side]: of patches [n, 64, classes], and of scenes from 2 x 2 blocks of patches
        [n, 16, classes].
        """
        hidden = self.tower(pixel_values=pixels).last_hidden_state[:, 1:]  # without the class token
        n, _, width = hidden.shape
        blocks = hidden.view(n, GRID // 2, 2, GRID // 2, 2, width).permute(0, 1, 3, 2, 4, 5)
        of_patches = self.patch(self.patch_norm(hidden))
        of_blocks = self.block(self.block_norm(blocks.reshape(n, GRID * GRID // 4, 4 * width)))
        return _by_field(of_patches, PATCH_FIELDS), _by_field(of_blocks, SCENE_FIELDS)


def _by_field(logits: Tensor, fields: dict[str, int]) -> Logits:
    return dict(zip(fields, logits.split(list(fields.values()), -1), strict=True))


def normalise(view: Array, device: str = "cpu") -> Tensor:
    """Pixel values as the preprocessing gives them: uint8 [n, side, side, 3] -> float32 [n, 3, side, side]."""
    x = torch.tensor(np.ascontiguousarray(view), device=device).float() / 255
    return ((x - torch.tensor(MEAN, device=device)) / torch.tensor(STD, device=device)).permute(0, 3, 1, 2).contiguous()


def _targets(data: TrainingData, rows: Any, device: str) -> tuple[Logits, Logits]:
    """The right classes of these rows: of patches [n, 64], of scenes [n]."""
    patches, labels = (torch.from_numpy(data.array(name)[rows].astype(np.int64)) for name in ("patches", "labels"))
    of_patches = dict(zip(PATCH_FIELDS, patches.to(device).unbind(-1), strict=True))
    return of_patches, dict(zip(SCENE_FIELDS, labels.to(device).unbind(-1), strict=True))


def _label_loss(read: tuple[Logits, Logits], right: tuple[Logits, Logits]) -> Tensor:
    """Cross-entropy over all labels; vehicle labels only where there is a vehicle."""
    (of_patches, of_blocks), (patches, labels) = read, right
    vehicle = patches["cell"] > 0
    weight = torch.ones(PATCH_FIELDS["cell"], device=vehicle.device)
    weight[0] = _BACKGROUND_WEIGHT
    loss = F.cross_entropy(of_patches.pop("cell").flatten(0, 1), patches["cell"].flatten(), weight=weight)
    for name, logits in of_patches.items():
        loss = loss + F.cross_entropy(logits[vehicle], patches[name][vehicle])
    for name, logits in of_blocks.items():
        of_scene = labels[name].repeat_interleave(logits.shape[1])
        loss = loss + _BLOCK_WEIGHT * F.cross_entropy(logits.flatten(0, 1), of_scene)
    return loss


@torch.no_grad()
def _label_accuracy(model: LabelledTower, data: TrainingData, side: int, device: str) -> dict[str, float]:
    """Share of right labels over the first 500 scenes, by name."""
    right: dict[str, list[float]] = defaultdict(list)
    for start in range(0, min(500, data.count), 100):
        part = slice(start, min(start + 100, data.count))
        of_patches, of_blocks = model(normalise(data.view(side)[part], device))
        patches, labels = _targets(data, part, device)
        vehicle = patches["cell"] > 0
        for name, logits in of_patches.items():
            right[f"patch {name}"].append((logits.argmax(-1) == patches[name])[vehicle].float().mean().item())
        for name, logits in of_blocks.items():
            right[name].append((logits.sum(1).argmax(-1) == labels[name]).float().mean().item())
    return {name: float(np.mean(values)) for name, values in right.items()}


def train_vision_tower(
    config: Any, data: TrainingData, held_out: TrainingData, side: int, steps: int, device: str, report: Report
) -> tuple[InternVLVisionModel, dict[str, float]]:
    """Train a tower on `data`; returns it and its label accuracy on `held_out`."""
    torch.manual_seed(0)
    model = LabelledTower(config).to(device).train()
    optimiser = Optimiser({"labelled": model}, steps, muon_lr=0.02, adam_lr=1e-3)
    view, order = data.view(side), np.random.default_rng(0)
    for step in range(steps):
        rows = np.sort(order.choice(data.count, VISION_BATCH, replace=False))
        with mixed_precision(device):
            loss = _label_loss(model(normalise(view[rows], device)), _targets(data, rows, device))
        optimiser.learn(loss, step)
        if (step + 1) % 20 == 0:
            report(step + 1, steps, f"loss {optimiser.running:.3f}")
    return model.eval().tower, _label_accuracy(model, held_out, side, device)
