"""Numbers that are none: a damaged weight or an overflow makes every logit NaN, whose argmax is token 0 for ever.

It is enough to look at the logit that is chosen: argmax prefers NaN to any number, and infinity to any finite one.
Where the first such number arises is looked for when there is one, by another pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

from aiflow_cli.errors import CheckpointError


def best_ids(logits: Tensor) -> list[int] | None:
    """The most likely id in each row of `logits`, [rows, vocabulary]; None if a chosen logit is no finite number."""
    ids: list[int] = logits.argmax(-1).tolist()
    return ids if all(map(math.isfinite, logits.amax(-1).tolist())) else None


def not_finite(
    model: InternVLForConditionalGeneration, ids: Sequence[int], pixel_values: Tensor | None
) -> CheckpointError:
    """What to raise after `ids` made a logit that is no finite number: where in `model` it arises, and a remedy."""
    found: list[tuple[str, nn.Module]] = []

    def look(where: str, part: nn.Module, _: Any, output: Any) -> None:
        if not _is_finite(output if isinstance(output, Tensor) else output[0]):  # others have their result first
            found.append((where, part))

    hooks = [part.register_forward_hook(partial(look, where)) for where, part in _parts(model)]
    try:
        with torch.inference_mode():
            pixels = None if pixel_values is None else pixel_values.to(model.device, model.dtype)
            inputs = torch.tensor([list(ids)], device=model.device)
            model(input_ids=inputs, pixel_values=pixels, use_cache=False, logits_to_keep=1)
    finally:
        for hook in hooks:
            hook.remove()
    where = found[0][0] if found else "somewhere in its language model"
    said = f"{model.config.name_or_path or 'the model'} computes NaN or infinity, first in {where}"
    if model.dtype == torch.float16 and found and all(map(_is_finite, found[0][1].parameters())):
        return CheckpointError(f"{said}, in numbers too large for float16: use --dtype float32 or bfloat16")
    return CheckpointError(f"{said}: fetch the checkpoint again")


def _parts(model: InternVLForConditionalGeneration) -> Iterator[tuple[str, nn.Module]]:
    inner: Any = model.model
    tower, language = inner.vision_tower, inner.language_model
    yield "the embeddings of its vision tower", tower.embeddings
    yield from ((f"layer {k} of its vision tower", layer) for k, layer in enumerate(tower.encoder.layer))
    yield "its vision tower", tower
    yield "its projector", inner.multi_modal_projector
    yield "the embeddings of its language model", language.embed_tokens
    yield from ((f"layer {k} of its language model", layer) for k, layer in enumerate(language.layers))
    yield "the last norm of its language model", language.norm
    yield "its output layer", model.lm_head


def _is_finite(values: Tensor) -> bool:
    """Whether all numbers are; of weights that lie elsewhere (on meta) or are quantised nothing is known, so yes."""
    plain = type(values) in (Tensor, nn.Parameter) and type(values.data) is Tensor and not values.is_meta
    return bool(values.isfinite().all()) if plain and values.is_floating_point() else True
