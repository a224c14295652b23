"""Names and shapes of an original InternVL2 checkpoint -> those of transformers' InternVL classes, and back.

One table of names serves both ways. Loading is declarative (`transformers.conversion_mapping`): `from_pretrained`
streams tensor by tensor through the list. The way back (`original_state`) is for the models that this project trains,
and tells which tensors a checkpoint must have (`models/tensors.py`).
"""

from __future__ import annotations

import re
from typing import Any, cast

import torch
from torch import Tensor
from transformers import InternVLForConditionalGeneration
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import Chunk, ConversionOps, WeightConverter, WeightRenaming


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
"""Parts of names, original and here, in the order of renaming; the way back begins at the end. ^: the name's start."""


def head_width(text: Any) -> int:
    """Numbers in a head of a language model, by its configuration."""
    width: int = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return width


class SplitPackedAttention(ConversionOps):
    """InternLM2's wqkv, rows [kv heads, group + 2, head]: per kv head queries, key, value -> q, k, v."""

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
        text = config.get_text_config()
        x = packed.unflatten(0, (text.num_key_value_heads, -1, head_width(text)))
        parts = (x[:, :-2], x[:, -2], x[:, -1])
        return {
            name: part.reshape(-1, *packed.shape[1:]).contiguous()
            for name, part in zip(target_patterns, parts, strict=True)
        }


def _pack_attention(parts: list[Tensor], config: Any) -> Tensor:
    """q, k and v -> wqkv: what `SplitPackedAttention` undoes."""
    text = config.get_text_config()
    by_head = [part.unflatten(0, (text.num_key_value_heads, -1, head_width(text))) for part in parts]
    return torch.cat(by_head, 1).flatten(0, 2)


_PACKED = {"attention": "attn.qkv", "self_attn": "attention.wqkv"}
"""Where q, k and v lie here -> the original's one tensor of all three; of language models only for InternLM2."""


def _split(ours: str, op: ConversionOps) -> list[WeightConverter]:
    return [
        WeightConverter(f"{_PACKED[ours]}.{kind}", [f"{ours}.{p}_proj.{kind}" for p in "qkv"], [op])
        for kind in ("weight", "bias")
    ]


def _layout(kind: Kind) -> list[WeightRenaming | WeightConverter]:
    packed = _split("self_attn", SplitPackedAttention()) if kind is InternVL2 else []
    renames = [WeightRenaming(_pattern(original), ours) for original, ours in NAMES[kind]]
    return [*renames, *_split("attention", Chunk(dim=0)), *packed]


def _pattern(part: str) -> str:
    return re.escape(part).replace(r"\^", "^")


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


def original_state(state: dict[str, Tensor], config: Any, internlm2: bool = True) -> dict[str, Tensor]:
    """The tensors of a model of transformers' InternVL class under their original names, packed as there.

    `internlm2` says whether the language model is InternLM2 or has transformers' own names. Works on meta tensors.
    """
    attention = re.compile(rf"\.({'attention|self_attn' if internlm2 else 'attention'})\.([qkv])_proj\.")
    result: dict[str, Tensor] = {}
    for name, value in state.items():
        if match := attention.search(name):
            ours, part = match.groups()
            if part != "q":
                continue
            parts = [state[name.replace(match[0], f".{ours}.{p}_proj.")] for p in "qkv"]
            value = torch.cat(parts) if ours == "attention" else _pack_attention(parts, config)
            name = name.replace(match[0], f".{_PACKED[ours]}.")
        result[_original_name(name, internlm2)] = value.contiguous()
    return result


def _original_name(name: str, internlm2: bool) -> str:
    for original, ours in reversed(NAMES[InternVL2 if internlm2 else InternVL2OtherLanguage]):
        pattern = f"^{ours}" if original.startswith("^") else ours
        name = re.sub(_pattern(pattern), original.removeprefix("^"), name)
    return name
