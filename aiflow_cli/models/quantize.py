"""Weights in 8 or 4 bits, by torchao (`pip install 'aiflow-cli[quantize]'`): the linear layers of the decoder layers.

Embeddings, head and vision tower keep their dtype: they are a small part, and the image is seen once. Weights are
rounded, arithmetic stays in the model's dtype. What is lossless then is speculation against the same quantised target.

int8: one byte a weight, a scale for each row. int4: on a GPU packed two to a byte, a scale and a zero for each group of
a row; on a CPU torchao has no packed kernel, so each takes a byte there: the same numbers, no saving.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from transformers import InternVLForConditionalGeneration

from aiflow_cli.errors import PrerequisiteError, UsageError

KINDS = ("int8", "int4")
GROUPS = (128, 64, 32)
"""Neighbouring weights of a row with one scale in int4: the first by which a row divides."""


def check_kind(kind: str, device: str, dtype: str) -> None:
    """Raise UsageError for an unknown kind, or one that device or dtype rule out."""
    if kind not in KINDS:
        raise UsageError(f"quantisation {kind!r} is not known: use {' or '.join(KINDS)}")
    if device == "auto":
        raise UsageError("a quantised model is not spread over several devices: use --device cuda")
    if kind == "int4" and device != "cpu" and dtype != "bfloat16":
        raise UsageError(f"int4 on a GPU computes in bfloat16, not in {dtype}: leave --dtype out")


def quantize_model(model: InternVLForConditionalGeneration, kind: str, device: str) -> None:
    """Quantise `model`, loaded on the CPU, layer by layer on `device`; raises PrerequisiteError without torchao."""
    try:
        from torchao import quantization
    except ImportError:
        raise PrerequisiteError("--quantize needs torchao: pip install 'aiflow-cli[quantize]'") from None

    for layer, group in quantised_layers(model):
        if kind == "int8":
            config = quantization.Int8WeightOnlyConfig(set_inductor_config=False)
        elif device == "cpu":
            int4 = getattr(torch, "int4")  # noqa: B009 - torch does not declare it
            config = quantization.IntxWeightOnlyConfig(int4, quantization.PerGroup(group))
        else:
            tiles = "tile_packed_to_4d"
            config = quantization.Int4WeightOnlyConfig(group, set_inductor_config=False, int4_packing_format=tiles)
        quantization.quantize_(layer, config, device=device)
    model.to(device)


def quantised_layers(model: InternVLForConditionalGeneration) -> Iterator[tuple[nn.Linear, int]]:
    """The layers that are quantised, each with its group size."""
    for module in model.model.language_model.layers.modules():
        groups = [group for group in GROUPS if isinstance(module, nn.Linear) and module.in_features % group == 0]
        if groups:
            yield module, groups[0]


def quantised_bytes(model: InternVLForConditionalGeneration, kind: str, item_bytes: int) -> int:
    """Bytes of a (meta) model's weights once quantised, on a GPU; what is not quantised takes `item_bytes` a weight."""
    layers = list(quantised_layers(model))
    weights: int = sum(layer.weight.numel() for layer, _ in layers)
    if kind == "int8":
        packed, scales = weights, sum(layer.out_features for layer, _ in layers)
    else:
        packed, scales = weights // 2, sum(2 * layer.weight.numel() // group for layer, group in layers)
    return packed + (int(model.num_parameters()) - weights + scales) * item_bytes
