"""The lean decoder: the same weights as transformers' forward, with as few operations a step as it takes (in the manner of gpt-fast).

A step of the small pair is bound by the number of operations, not by arithmetic, and a verification of five tokens must cost little more
than a step. So, for a Llama-shaped language model (InternLM2, Llama) on a CPU:

- matrices are stored [in, out] and applied by `mm`: faster than `linear` for 1 to 25 rows, most of all for one;
- norm weights and the 1/sqrt(head) of attention are folded into the matrices that follow, q, k, v into one, gate and up into one;
- rotary embedding is one complex product: the halves of each head of q and k are interleaved in the stored matrices, which leaves
  q . k as it was;
- keys and values lie in arrays made once; rollback moves a number; residuals are added by `addmm`.

One token, a draft and a whole prompt take the same path. Tested against `models/reference.py` to 1e-5 in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import InternVLForConditionalGeneration, LlamaConfig

from aiflow_cli.models.decoder import check_rollback
from aiflow_cli.models.prompt import Prompt


@dataclass(frozen=True)
class Layer:
    """One decoder layer's matrices, all [in, out], norms folded in: qkv [d, (h + 2 kv) head], out, gate_up [d, 2 ffn], down [ffn, d]."""

    qkv: Tensor
    qkv_bias: Tensor | None
    out: Tensor
    gate_up: Tensor
    down: Tensor


class LeanWeights:
    """The language model's weights in the form above; made once for a model, shared by its decoders."""

    def __init__(self, model: InternVLForConditionalGeneration) -> None:
        text = model.config.get_text_config()
        self.heads, self.kv_heads = text.num_attention_heads, text.num_key_value_heads
        self.head = getattr(text, "head_dim", None) or text.hidden_size // self.heads
        self.width, self.eps = text.hidden_size, text.rms_norm_eps
        inner = model.model.language_model
        self.embedding: Tensor = inner.embed_tokens.weight.detach()
        self.layers = [self._pack(layer) for layer in inner.layers]
        self.logits = _transposed(model.lm_head.weight.detach() * inner.norm.weight.detach())
        self._rotary = inner.rotary_emb

    def _pack(self, layer: Any) -> Layer:
        attention, mlp = layer.self_attn, layer.mlp
        before, after = layer.input_layernorm.weight.detach(), layer.post_attention_layernorm.weight.detach()
        scale = self.head**-0.5
        q, k = (
            self._interleaved(attention.q_proj.weight.detach()) * scale,
            self._interleaved(attention.k_proj.weight.detach()),
        )
        qkv = torch.cat((q, k, attention.v_proj.weight.detach())) * before
        bias = None
        if attention.q_proj.bias is not None:
            q_bias, k_bias = (
                self._interleaved(attention.q_proj.bias.detach()) * scale,
                self._interleaved(attention.k_proj.bias.detach()),
            )
            bias = torch.cat((q_bias, k_bias, attention.v_proj.bias.detach()))
        gate_up = torch.cat((mlp.gate_proj.weight.detach(), mlp.up_proj.weight.detach())) * after
        out, down = _transposed(attention.o_proj.weight.detach()), _transposed(mlp.down_proj.weight.detach())
        return Layer(_transposed(qkv), bias, out, _transposed(gate_up), down)

    def _interleaved(self, rows: Tensor) -> Tensor:
        """Rows of q or k, [heads * head, ...], with the two halves of each head interleaved."""
        heads = rows.unflatten(0, (-1, 2, self.head // 2))
        interleaved: Tensor = heads.transpose(1, 2).reshape(rows.shape)
        return interleaved

    def rotations(self, length: int) -> Tensor:
        """exp(i angle) by position and frequency: complex64 [length, 1, head / 2]."""
        positions = torch.arange(length)[None]
        cos, sin = self._rotary(torch.zeros(1, dtype=torch.float32), positions)
        half = self.head // 2
        return torch.complex(cos[0, :, None, :half].float(), sin[0, :, None, :half].float())


def _transposed(matrix: Tensor) -> Tensor:
    return matrix.t().contiguous()


class LeanDecoder:
    """Decoder (see `models/decoder.py`) with room for `max_length` positions, prompt included."""

    def __init__(self, model: InternVLForConditionalGeneration, weights: LeanWeights, max_length: int) -> None:
        self._model, self._weights = model, weights
        shape = (len(weights.layers), max_length, weights.kv_heads, weights.head)
        dtype = weights.embedding.dtype
        self._keys, self._values = torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)
        self._views = [(k.transpose(0, 1), v.transpose(0, 1)) for k, v in zip(self._keys, self._values, strict=True)]
        self._rotations = weights.rotations(max_length)
        self._mask = torch.full((max_length, max_length), float("-inf"), dtype=dtype).triu_(1)
        self.max_length = max_length
        self.prompt_length = 0
        self.length = 0
        self.last_logits: Tensor = torch.empty(0)

    @staticmethod
    def covers(model: InternVLForConditionalGeneration) -> bool:
        """Whether this decoder computes what `model` does: a Llama-shaped language model on a CPU in float32."""
        text = model.config.get_text_config()
        static_rope = text.rope_parameters.get("rope_type", "default") in ("default", "dynamic")
        plain = (
            isinstance(text, LlamaConfig)
            and text.hidden_act == "silu"
            and not text.mlp_bias
            and not text.attention_bias
        )
        return plain and static_rope and model.device.type == "cpu" and model.dtype == torch.float32

    def prefill(self, prompt: Prompt) -> int:
        """See Decoder."""
        with torch.inference_mode():
            ids = torch.tensor(prompt.input_ids)
            embedded = self._weights.embedding[ids]
            if prompt.pixel_values is not None:
                features = self._model.model.get_image_features(pixel_values=prompt.pixel_values).pooler_output
                embedded[ids == self._model.config.image_token_id] = features.flatten(0, 1)
            self.length = 0
            token = self._forward(embedded, last_only=True)[0]
            self.prompt_length = self.length
            return token

    def extend(self, tokens: Sequence[int]) -> list[int]:
        """See Decoder."""
        with torch.inference_mode():
            return self._forward(self._weights.embedding[list(tokens)])

    def rollback(self, length: int) -> None:
        """See Decoder."""
        check_rollback(self, length)
        self.length = length

    def _forward(self, x: Tensor, last_only: bool = False) -> list[int]:
        weights, start, stop = self._weights, self.length, self.length + len(x)
        if stop > self.max_length:
            raise ValueError(f"the cache has room for {self.max_length} positions, {stop} are needed")
        shape = (weights.width,)
        mask = self._mask[start:stop, :stop] if len(x) > 1 else None
        rotations = self._rotations[start:stop]
        for layer, keys, values, (k_view, v_view) in zip(
            weights.layers, self._keys, self._values, self._views, strict=True
        ):
            qkv = torch.mm(F.rms_norm(x, shape, None, weights.eps), layer.qkv)
            attended = self._attend(
                qkv, rotations, mask, keys[start:stop], values[start:stop], k_view[:, :stop], v_view[:, :stop]
            )
            x = torch.addmm(x, attended, layer.out)
            gate, up = torch.mm(F.rms_norm(x, shape, None, weights.eps), layer.gate_up).chunk(2, 1)
            x = torch.addmm(x, F.silu(gate).mul_(up), layer.down)
        self.length = stop
        x = F.rms_norm(x[-1:] if last_only else x, shape, None, weights.eps)
        self.last_logits = torch.mm(x, weights.logits)
        chosen: list[int] = self.last_logits.argmax(-1).tolist()
        return chosen

    def _attend(
        self,
        qkv: Tensor,
        rotations: Tensor,
        mask: Tensor | None,
        new_keys: Tensor,
        new_values: Tensor,
        keys: Tensor,
        values: Tensor,
    ) -> Tensor:
        """Attention of the new rows over all cached ones; writes the new keys and values. qkv [m, ...] -> [m, heads * head]."""
        weights, rows = self._weights, len(qkv)
        heads, kv = weights.heads, weights.kv_heads
        qkv = qkv.view(rows, heads + 2 * kv, weights.head)
        pairs = qkv[:, : heads + kv].unflatten(2, (-1, 2))
        rotated = torch.view_as_real(torch.view_as_complex(pairs) * rotations).flatten(2)
        new_keys.copy_(rotated[:, heads:])
        new_values.copy_(qkv[:, heads + kv :])
        group = heads // kv
        q = rotated[:, :heads]
        if group > 1:
            q = q.unflatten(1, (kv, group)).transpose(0, 1).flatten(1, 2)
            mask = mask.repeat_interleave(group, 0) if mask is not None else None
        else:
            q = q.transpose(0, 1)
        scores = torch.bmm(q, keys.mT) if mask is None else torch.baddbmm(mask, q, keys.mT)
        mixed = torch.bmm(scores.softmax(-1), values)
        if group > 1:
            mixed = mixed.unflatten(1, (rows, group)).transpose(1, 2).flatten(0, 1)
        return mixed.transpose(0, 1).reshape(rows, heads * weights.head)
