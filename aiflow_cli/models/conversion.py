"""Names and shapes of an original InternVL2 checkpoint -> those of transformers' InternVL classes, and back.

Loading is declarative (`transformers.conversion_mapping`): `from_pretrained` streams tensor by tensor through the list. The way back
(`original_state`) is for the models that this project trains, and tells which tensors a checkpoint must have (`models/tensors.py`).
"""

from __future__ import annotations

import re
from typing import Any

import torch
from transformers import InternVLForConditionalGeneration
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import Chunk, ConversionOps, WeightConverter, WeightRenaming


class InternVL2(InternVLForConditionalGeneration):
    """transformers' own class under a name of its own, so that the mapping below holds for original checkpoints only (InternLM2)."""


class InternVL2OtherLanguage(InternVLForConditionalGeneration):
    """The same for the members of the series whose language model is Qwen2, Phi-3 or Llama: its names are transformers' own."""


def _groups(config: Any) -> tuple[int, int, int]:
    text = config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return text.num_key_value_heads, text.num_attention_heads // text.num_key_value_heads, head


class SplitPackedAttention(ConversionOps):
    """InternLM2's wqkv, rows [kv heads, group + 2, head]: per kv head its queries, then its key, then its value -> q, k, v."""

    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],
        target_patterns: list[str],
        config: Any = None,
        **_: Any,
    ) -> dict[str, Any]:
        """Split one packed tensor into the three of `target_patterns`."""
        packed = next(iter(input_dict.values()))
        packed = packed[0] if isinstance(packed, list) else packed
        kv, group, head = _groups(config)
        x = packed.unflatten(0, (kv, group + 2, head))
        parts = (x[:, :group], x[:, group], x[:, group + 1])
        return {
            name: part.reshape(-1, *packed.shape[1:]).contiguous()
            for name, part in zip(target_patterns, parts, strict=True)
        }


_V, _L = r"model.vision_tower.", r"model.language_model."
_VISION = [
    WeightRenaming(r"^vision_model\.", _V),
    WeightRenaming(r"embeddings\.class_embedding", "embeddings.cls_token"),
    WeightRenaming(r"embeddings\.position_embedding", "embeddings.position_embeddings"),
    WeightRenaming(r"embeddings\.patch_embedding\.", "embeddings.patch_embeddings.projection."),
    WeightRenaming(r"vision_tower\.encoder\.layers\.", "vision_tower.encoder.layer."),
    WeightRenaming(r"\.attn\.proj\.", ".attention.projection_layer."),
    WeightRenaming(r"\.attn\.q_norm\.", ".attention.q_norm."),
    WeightRenaming(r"\.attn\.k_norm\.", ".attention.k_norm."),
    WeightRenaming(r"\.norm1\.", ".layernorm_before."),
    WeightRenaming(r"\.norm2\.", ".layernorm_after."),
    WeightRenaming(r"\.ls1", ".lambda_1"),
    WeightRenaming(r"\.ls2", ".lambda_2"),
]
_PROJECTOR = [
    WeightRenaming(r"^mlp1\.0\.", "model.multi_modal_projector.layer_norm."),
    WeightRenaming(r"^mlp1\.1\.", "model.multi_modal_projector.linear_1."),
    WeightRenaming(r"^mlp1\.3\.", "model.multi_modal_projector.linear_2."),
]
_INTERNLM2 = [
    WeightRenaming(r"^language_model\.model\.tok_embeddings\.", _L + "embed_tokens."),
    WeightRenaming(r"^language_model\.model\.norm\.", _L + "norm."),
    WeightRenaming(r"^language_model\.model\.layers\.", _L + "layers."),
    WeightRenaming(r"^language_model\.output\.", "lm_head."),
    WeightRenaming(r"\.attention\.wo\.", ".self_attn.o_proj."),
    WeightRenaming(r"\.feed_forward\.w1\.", ".mlp.gate_proj."),
    WeightRenaming(r"\.feed_forward\.w3\.", ".mlp.up_proj."),
    WeightRenaming(r"\.feed_forward\.w2\.", ".mlp.down_proj."),
    WeightRenaming(r"\.attention_norm\.", ".input_layernorm."),
    WeightRenaming(r"\.ffn_norm\.", ".post_attention_layernorm."),
]
_OTHER_LANGUAGES = [
    WeightRenaming(r"^language_model\.lm_head\.", "lm_head."),
    WeightRenaming(r"^language_model\.model\.", _L),
]


def _split(source: str, target: str, op: ConversionOps) -> list[WeightConverter]:
    return [
        WeightConverter(f"{source}.{kind}", [f"{target}.{p}_proj.{kind}" for p in "qkv"], [op])
        for kind in ("weight", "bias")
    ]


_VISION_ATTENTION = _split("attn.qkv", "attention", Chunk(dim=0))
LAYOUTS: dict[type[InternVLForConditionalGeneration], list[WeightRenaming | WeightConverter]] = {
    InternVL2: [
        *_VISION,
        *_PROJECTOR,
        *_INTERNLM2,
        *_VISION_ATTENTION,
        *_split("attention.wqkv", "self_attn", SplitPackedAttention()),
    ],
    InternVL2OtherLanguage: [*_VISION, *_PROJECTOR, *_OTHER_LANGUAGES, *_VISION_ATTENTION],
}


def is_internlm2(original: dict[str, Any]) -> bool:
    """Whether an original config.json has InternLM2 for its language model, whose tensors have names of their own."""
    return bool(original.get("llm_config", {}).get("architectures") == ["InternLM2ForCausalLM"])


def original_class(original: dict[str, Any]) -> type[InternVLForConditionalGeneration]:
    """The class whose mapping fits the language model named in an original config.json; the mappings are registered."""
    for kind, layout in LAYOUTS.items():
        register_checkpoint_conversion_mapping(kind.__name__, layout, overwrite=True)
    return InternVL2 if is_internlm2(original) else InternVL2OtherLanguage


_BACK = (
    (r"^model\.vision_tower\.encoder\.layer\.", "vision_model.encoder.layers."),
    (r"^model\.vision_tower\.", "vision_model."),
    (r"embeddings\.cls_token$", "embeddings.class_embedding"),
    (r"embeddings\.position_embeddings$", "embeddings.position_embedding"),
    (r"embeddings\.patch_embeddings\.projection\.", "embeddings.patch_embedding."),
    (r"\.attention\.projection_layer\.", ".attn.proj."),
    (r"\.attention\.([qk]_norm)\.", r".attn.\1."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.lambda_([12])$", r".ls\1"),
    (r"^model\.multi_modal_projector\.layer_norm\.", "mlp1.0."),
    (r"^model\.multi_modal_projector\.linear_1\.", "mlp1.1."),
    (r"^model\.multi_modal_projector\.linear_2\.", "mlp1.3."),
    (r"^model\.language_model\.", "language_model.model."),
)
_BACK_INTERNLM2 = (
    (r"^lm_head\.", "language_model.output."),
    (r"^language_model\.model\.embed_tokens\.", "language_model.model.tok_embeddings."),
    (r"\.self_attn\.o_proj\.", ".attention.wo."),
    (r"\.mlp\.gate_proj\.", ".feed_forward.w1."),
    (r"\.mlp\.up_proj\.", ".feed_forward.w3."),
    (r"\.mlp\.down_proj\.", ".feed_forward.w2."),
    (r"\.input_layernorm\.", ".attention_norm."),
    (r"\.post_attention_layernorm\.", ".ffn_norm."),
)
_BACK_OTHERS = ((r"^lm_head\.", "language_model.lm_head."),)
_PACKED = {".attention.": ".attn.qkv.", ".self_attn.": ".attention.wqkv."}


def original_state(state: dict[str, torch.Tensor], config: Any, internlm2: bool = True) -> dict[str, torch.Tensor]:
    """The tensors of a model of transformers' InternVL class under their original names, packed as the original has them.

    `internlm2` says whether the language model is InternLM2 or has transformers' own names. Works on meta tensors.
    """
    kv, _group, head = _groups(config)
    packed = re.compile(
        r"(\.attention\.|\.self_attn\.)([qkv])_proj\." if internlm2 else r"(\.attention\.)([qkv])_proj\."
    )
    renames = (*_BACK, *(_BACK_INTERNLM2 if internlm2 else _BACK_OTHERS))
    result: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if match := packed.search(name):
            if match[2] != "q":
                continue
            parts = [state[name.replace(match[0], f"{match[1]}{p}_proj.")] for p in "qkv"]
            if match[1] == ".attention.":
                value = torch.cat(parts)
            else:
                value = torch.cat([part.unflatten(0, (kv, -1, head)) for part in parts], 1).flatten(0, 2)
            name = name.replace(match[0], _PACKED[match[1]])
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        result[name] = value.contiguous()
    return result
