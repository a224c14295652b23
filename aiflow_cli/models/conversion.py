"""Names and shapes of an original InternVL2 checkpoint -> those of transformers' InternVL classes, and back.

One list serves both ways (`transformers.conversion_mapping`): `from_pretrained` streams tensor by tensor through it,
and transformers reverses it for the way back (`original_state`), which is for the models that this project trains, and
tells which tensors a checkpoint must have (`models/internvl2.py`).
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor
from transformers import InternVLForConditionalGeneration
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import (
    Chunk,
    ConversionOps,
    WeightConverter,
    WeightRenaming,
    revert_weight_conversion,
)


class InternVL2(InternVLForConditionalGeneration):
    """transformers' own class under its own name: the mapping below is for original checkpoints only (InternLM2)."""


class InternVL2OtherLanguage(InternVLForConditionalGeneration):
    """The same for members whose language model is Qwen2, Phi-3 or Llama, which has transformers' own names."""


_VISION = (
    ("^vision_model.", "model.vision_tower."),
    ("embeddings.class_embedding", "embeddings.cls_token"),
    ("embeddings.position_embedding", "embeddings.position_embeddings"),
    ("embeddings.patch_embedding.", "embeddings.patch_embeddings.projection."),
    ("vision_tower.encoder.layers.", "vision_tower.encoder.layer."),
    (".attn.proj.", ".attention.projection_layer."),
    (".attn.q_norm.", ".attention.q_norm."),
    (".attn.k_norm.", ".attention.k_norm."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".ls1", ".lambda_1"),
    (".ls2", ".lambda_2"),
)
_PROJECTOR = (
    ("^mlp1.0.", "model.multi_modal_projector.layer_norm."),
    ("^mlp1.1.", "model.multi_modal_projector.linear_1."),
    ("^mlp1.3.", "model.multi_modal_projector.linear_2."),
)
_INTERNLM2 = (
    ("^language_model.model.tok_embeddings.", "model.language_model.embed_tokens."),
    ("^language_model.model.norm.", "model.language_model.norm."),
    ("^language_model.model.layers.", "model.language_model.layers."),
    ("^language_model.output.", "lm_head."),
    (".attention.wo.", ".self_attn.o_proj."),
    (".feed_forward.w1.", ".mlp.gate_proj."),
    (".feed_forward.w3.", ".mlp.up_proj."),
    (".feed_forward.w2.", ".mlp.down_proj."),
    (".attention_norm.", ".input_layernorm."),
    (".ffn_norm.", ".post_attention_layernorm."),
)
_OTHER_LANGUAGES = (("^language_model.lm_head.", "lm_head."), ("^language_model.model.", "model.language_model."))
Kind = type[InternVLForConditionalGeneration]
NAMES: dict[Kind, tuple[tuple[str, str], ...]] = {
    InternVL2: (*_VISION, *_PROJECTOR, *_INTERNLM2),
    InternVL2OtherLanguage: (*_VISION, *_PROJECTOR, *_OTHER_LANGUAGES),
}
"""Parts of names, original and here, in the order of renaming. ^: the name's start."""


def head_width(text: Any) -> int:
    """Numbers in a head of a language model, by its configuration."""
    width: int = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return width


class _PackedAttention(ConversionOps):
    """InternLM2's wqkv, rows [kv heads, group + 2, head]: per kv head queries, key, value; to q, k, v or `back`."""

    def __init__(self, back: bool = False) -> None:
        self.back = back

    @torch.no_grad()
    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **context: Any
    ) -> dict[str, Any]:
        """The one packed tensor as the three of `target_patterns`, or the three of `source_patterns` as the one."""
        text = context["config"].get_text_config()
        names = source_patterns if self.back else input_dict
        tensors = [held[0] if isinstance(held := input_dict[name], list) else held for name in names]
        by_head = [x.unflatten(0, (text.num_key_value_heads, -1, head_width(text))) for x in tensors]
        if self.back:
            return {target_patterns[0]: torch.cat(by_head, 1).flatten(0, 2)}
        parts = by_head[0][:, :-2], by_head[0][:, -2:-1], by_head[0][:, -1:]
        return {name: part.flatten(0, 2) for name, part in zip(target_patterns, parts, strict=True)}

    @property
    def reverse_op(self) -> ConversionOps:
        """The other way."""
        return _PackedAttention(not self.back)


def _layout(kind: Kind) -> list[WeightRenaming | WeightConverter]:
    """What transformers does with the tensors of a checkpoint; q, k and v are one tensor in the original."""
    packed: dict[tuple[str, str], ConversionOps] = {("attn.qkv", "attention"): Chunk(dim=0)}
    if kind is InternVL2:
        packed["attention.wqkv", "self_attn"] = _PackedAttention()
    renames = [WeightRenaming(re.escape(original).replace(r"\^", "^"), ours) for original, ours in NAMES[kind]]
    return renames + [
        WeightConverter(f"{original}.{part}", [f"{ours}.{p}_proj.{part}" for p in "qkv"], [op])
        for (original, ours), op in packed.items()
        for part in ("weight", "bias")
    ]


def is_internlm2(original: dict[str, Any]) -> bool:
    """Whether an original config.json has InternLM2 for its language model, whose tensors have names of their own."""
    return bool(original.get("llm_config", {}).get("architectures") == ["InternLM2ForCausalLM"])


def model_class(config: dict[str, Any]) -> Kind:
    """The class that reads the weights of a config.json's checkpoint; its mapping of names is registered."""
    for kind in NAMES:
        register_checkpoint_conversion_mapping(kind.__name__, _layout(kind), overwrite=True)
    if config.get("model_type") == "internvl":
        return cast(Kind, InternVLForConditionalGeneration)
    return InternVL2 if is_internlm2(config) else InternVL2OtherLanguage


def original_state(state: dict[str, Tensor], config: Any, internlm2: bool) -> dict[str, Tensor]:
    """The tensors of a model of transformers' InternVL class under their original names, packed as there.

    `internlm2` says whether the language model is InternLM2 or has transformers' own names. Works on meta tensors.
    """
    layout = _layout(InternVL2 if internlm2 else InternVL2OtherLanguage)
    model: Any = SimpleNamespace(_weight_conversions=layout, config=config)
    return {name: value.contiguous() for name, value in revert_weight_conversion(model, state).items()}
