"""Weights in 8 or 4 bits, by torchao (`pip install 'aiflow-cli[quantize]'`): the linear layers of the language model's decoder layers.

Embeddings, head and vision tower keep their dtype: they are a small part, and the image is seen once. Weights are rounded, arithmetic stays
in the model's dtype. What is lossless then is speculation against the same quantised target.

int8: one byte a weight, a scale for each row. int4: on a GPU packed two to a byte, a scale and a zero for each group of a row; on a CPU
torchao has no packed kernel, so each takes a byte there: the same numbers, no saving.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import InternVLForConditionalGeneration

from aiflow_cli.errors import PrerequisiteError, UsageError

KINDS = ("int8", "int4")
GROUP = 128
"""Neighbouring weights of a row with one scale in int4; smaller where a row does not divide by it."""
_SMALLEST_GROUP = 32


def check_kind(kind: str, device: str, dtype: str) -> None:
    """Raise UsageError for an unknown kind, or one that device or dtype rule out."""
    if kind not in KINDS:
        raise UsageError(f"quantisation {kind!r} is not known: use {' or '.join(KINDS)}")
    if device == "auto":
        raise UsageError("a quantised model is not spread over several devices: use --device cuda")
    if kind == "int4" and device != "cpu" and dtype != "bfloat16":
        raise UsageError(f"int4 on a GPU computes in bfloat16, not in {dtype}: leave --dtype out")


def quantize_model(model: InternVLForConditionalGeneration, kind: str, device: str) -> None:
    """Quantise `model`, loaded on the CPU, layer by layer on `device`, where it stays. Raises PrerequisiteError without torchao."""
    try:
        from torchao.quantization import quantize_
    except ImportError:
        raise PrerequisiteError("--quantize needs torchao: pip install 'aiflow-cli[quantize]'") from None

    for layer, group in quantised_layers(model):
        quantize_(layer, _config(kind, group, device), device=device)
    model.to(device)


def quantised_layers(model: InternVLForConditionalGeneration) -> Iterator[tuple[nn.Linear, int]]:
    """The layers that are quantised, each with its group size."""
    for module in model.model.language_model.layers.modules():
        if isinstance(module, nn.Linear) and (group := _group(module.in_features)):
            yield module, group


def quantised_bytes(model: InternVLForConditionalGeneration, kind: str, item_bytes: int) -> int:
    """Bytes of a (meta) model's weights once quantised, on a GPU; what is not quantised takes `item_bytes` a weight."""
    layers = list(quantised_layers(model))
    weights: int = sum(layer.weight.numel() for layer, _ in layers)
    others: int = sum(parameter.numel() for parameter in model.parameters()) - weights
    if kind == "int8":
        return others * item_bytes + weights + sum(layer.out_features for layer, _ in layers) * item_bytes
    return (
        others * item_bytes
        + weights // 2
        + sum(2 * layer.weight.numel() // group for layer, group in layers) * item_bytes
    )


def _group(length: int) -> int | None:
    group = GROUP
    while length % group and group > _SMALLEST_GROUP:
        group //= 2
    return None if length % group else group


def _config(kind: str, group: int, device: str) -> Any:
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup

    if kind == "int8":
        return Int8WeightOnlyConfig(set_inductor_config=False)
    if device == "cpu":
        return IntxWeightOnlyConfig(getattr(torch, "int4"), PerGroup(group))  # noqa: B009 - torch does not declare it
    return Int4WeightOnlyConfig(group, set_inductor_config=False, int4_packing_format="tile_packed_to_4d")
