"""First stage: a vision tower learns what the renderer knows of every patch, then its heads are dropped.

A caption model that has to find out by itself where to look needs far more pictures than two cores can show it; a tower that can already
tell the kind, colour and heading of the vehicle in a patch leaves it only the language to learn. Patch heads read the tower's outputs,
block heads read each group of 2 x 2 patches, as pixel shuffle will hand them to the projector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.internvl.modeling_internvl import InternVLVisionModel

from aiflow_cli.training.data import GRID, PATCH_FIELDS, SCENE_FIELDS, TrainingData
from aiflow_cli.training.optim import Optimiser
from aiflow_cli.training.precision import mixed_precision

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BACKGROUND_WEIGHT = 0.25
_BLOCK_WEIGHT = 0.3

Report = Callable[[int, int, str], None]


class LabelHeads(nn.Module):
    """Linear readings of the tower's outputs: patch labels, and scene labels from each block of 2 x 2 patches."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.patch_norm, self.block_norm = nn.LayerNorm(hidden), nn.LayerNorm(4 * hidden)
        self.patch = nn.Linear(hidden, sum(PATCH_FIELDS.values()))
        self.block = nn.Linear(4 * hidden, sum(SCENE_FIELDS.values()))

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Logits from [n, 64, hidden]: patches [n, 64, classes], blocks [n, 16, classes]."""
        return self.patch(self.patch_norm(hidden)), self.block(self.block_norm(shuffle_blocks(hidden)))


def shuffle_blocks(hidden: Tensor) -> Tensor:
    """Groups of 2 x 2 patches, [n, 64, h] -> [n, 16, 4h]."""
    n, _, h = hidden.shape
    x = hidden.view(n, GRID // 2, 2, GRID // 2, 2, h).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(n, GRID * GRID // 4, 4 * h)


def normalise(view: np.ndarray[Any, Any], device: str = "cpu") -> Tensor:
    """Pixel values as the preprocessing gives them: uint8 [n, side, side, 3] -> float32 [n, 3, side, side]."""
    x = torch.tensor(np.ascontiguousarray(view), device=device).float() / 255
    return ((x - torch.tensor(MEAN, device=device)) / torch.tensor(STD, device=device)).permute(0, 3, 1, 2).contiguous()


def new_vision_tower(config: Any) -> InternVLVisionModel:
    """A vision tower with random weights; transformers leaves its position embeddings at zero, which learns slowly."""
    config._attn_implementation = "eager"
    tower = InternVLVisionModel(config)
    for name, p in tower.named_parameters():
        if "position_embeddings" in name or "cls_token" in name:
            nn.init.normal_(p, std=0.02)
        elif "lambda" in name:
            nn.init.ones_(p)
    return tower


def patch_features(tower: InternVLVisionModel, pixels: Tensor) -> Tensor:
    """The tower's last hidden states without the class token: [n, 64, hidden]."""
    hidden: Tensor = tower(pixel_values=pixels).last_hidden_state
    return hidden[:, 1:]


def label_loss(heads: LabelHeads, hidden: Tensor, patches: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over all labels; vehicle labels only where there is a vehicle."""
    patch_logits, block_logits = heads(hidden)
    cell, *rest = patch_logits.split(list(PATCH_FIELDS.values()), -1)
    vehicle = patches[..., 0] > 0
    weight = torch.full((PATCH_FIELDS["cell"],), 1.0, device=hidden.device)
    weight[0] = _BACKGROUND_WEIGHT
    loss = F.cross_entropy(cell.flatten(0, 1), patches[..., 0].flatten(), weight=weight)
    for k, logits in enumerate(rest, 1):
        loss = loss + F.cross_entropy(logits[vehicle], patches[..., k][vehicle])
    blocks = block_logits.shape[1]
    for k, logits in enumerate(block_logits.split(list(SCENE_FIELDS.values()), -1)):
        loss = loss + _BLOCK_WEIGHT * F.cross_entropy(logits.flatten(0, 1), labels[:, k].repeat_interleave(blocks))
    return loss


@torch.no_grad()
def label_accuracy(
    tower: InternVLVisionModel, heads: LabelHeads, data: TrainingData, side: int, count: int, device: str
) -> dict[str, float]:
    """Share of right labels over the first `count` scenes, by name."""
    right: dict[str, list[float]] = {}
    for start in range(0, count, 100):
        part = slice(start, min(start + 100, count))
        hidden = patch_features(tower, normalise(data.view(side)[part], device))
        patch_logits, block_logits = (t.cpu() for t in heads(hidden))
        patches, labels = (
            torch.from_numpy(data.patches[part].astype(np.int64)),
            torch.from_numpy(data.labels[part].astype(np.int64)),
        )
        vehicle = patches[..., 0] > 0
        for k, (name, logits) in enumerate(
            zip(PATCH_FIELDS, patch_logits.split(list(PATCH_FIELDS.values()), -1), strict=True)
        ):
            right.setdefault(f"patch {name}", []).append(
                (logits.argmax(-1) == patches[..., k])[vehicle].float().mean().item()
            )
        for k, (name, logits) in enumerate(
            zip(SCENE_FIELDS, block_logits.split(list(SCENE_FIELDS.values()), -1), strict=True)
        ):
            right.setdefault(name, []).append((logits.sum(1).argmax(-1) == labels[:, k]).float().mean().item())
    return {name: float(np.mean(values)) for name, values in right.items()}


def train_vision_tower(
    config: Any,
    data: TrainingData,
    held_out: TrainingData,
    side: int,
    steps: int,
    batch: int,
    seed: int,
    device: str,
    report: Report,
) -> tuple[InternVLVisionModel, dict[str, float]]:
    """Train a tower on `data`; returns it and its label accuracy on `held_out`."""
    torch.manual_seed(seed)
    tower = new_vision_tower(config).to(device).train()
    heads = LabelHeads(config.hidden_size).to(device)
    optimiser = Optimiser((("tower", tower), ("heads", heads)), steps, muon_lr=0.02, adam_lr=1e-3)
    view, all_patches, all_labels = data.view(side), data.patches, data.labels
    order = np.random.default_rng(seed)
    running = 0.0
    for step in range(steps):
        rows = np.sort(order.choice(data.count, batch, replace=False))
        patches = torch.from_numpy(all_patches[rows].astype(np.int64)).to(device)
        labels = torch.from_numpy(all_labels[rows].astype(np.int64)).to(device)
        with mixed_precision(device):
            loss = label_loss(heads, patch_features(tower, normalise(view[rows], device)), patches, labels)
        loss.backward()
        optimiser.step(step)
        running = loss.item() if step == 0 else 0.95 * running + 0.05 * loss.item()
        if (step + 1) % 20 == 0:
            report(step + 1, steps, f"loss {running:.3f}")
    tower.eval()
    return tower, label_accuracy(tower, heads, held_out, side, min(500, held_out.count), device)
