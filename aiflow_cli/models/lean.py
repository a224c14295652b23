"""The lean decoder: the same weights as transformers' forward, in as few operations a step as can be (as gpt-fast).

A step of the small pair is bound by the number of operations and by reading the weights, not by arithmetic, and a
verification of five tokens must cost little more than a step. So, for a Llama-shaped language model (InternLM2, Llama)
on a CPU:

- matrices are stored [in, out] and applied by `mm`: faster than `linear` for 1 to 25 rows. q, k and v are one, gate and
  up two: MKL takes two narrow products of several rows faster than a wide one (a single row gains nothing, or loses up
  to 8 % of a step where other processes press on the cache);
- norm weights, the norm's sqrt(width) and the 1/sqrt(head) of attention are folded into the matrices that follow;
- a cached row is what that product writes, q, k and v of a position, in its place: nothing is copied, and to go back is
  to change a number;
- rotary embedding is one complex product in place: the halves of each head of q and k are interleaved in the stored
  matrices, which leaves q . k as it was;
- a layer's views of the cache are made for all layers at once, and residuals are added by `addmm_`.

One token, a draft and a prompt (in pieces, if it is long) take the same path. Tested against `ReferenceDecoder` to
1e-5 in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import InternVLForConditionalGeneration, LlamaConfig

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.conversion import head_width
from aiflow_cli.models.decoder import Decoder
from aiflow_cli.models.finite import not_finite
from aiflow_cli.models.prompt import Prompt

PIECE_ROWS = 128
"""A longer prompt is taken in pieces: mask and scores would else grow with the square of its length."""
SPARE_ROWS = 1
"""Three rows, or seven, or eleven, are slower than one more: MKL takes rows by fours. So one is added and dropped."""


class Layer(NamedTuple):
    """A layer's matrices [in, out], norms folded in: qkv [d, (h + 2 kv) head], gate and up [d, ffn], down [ffn, d]."""

    qkv: Tensor
    out: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor


class LeanWeights:
    """The language model's weights in the form above; made once for a model, shared by its decoders.

    Raises CheckpointError if an output layer of these weights makes logits that are no numbers whatever it is given.
    """

    def __init__(self, model: InternVLForConditionalGeneration) -> None:
        text = model.config.get_text_config()
        self.heads, self.kv_heads = text.num_attention_heads, text.num_key_value_heads
        self.head = head_width(text)
        self.width, self.eps = text.hidden_size, text.rms_norm_eps
        inner = model.model.language_model
        self.embedding: Tensor = inner.embed_tokens.weight.detach()
        self.layers = [self._pack(layer) for layer in inner.layers]
        self.logits = _transposed(model.lm_head.weight.detach() * inner.norm.weight.detach() * self.width**0.5)
        if not bool(self.logits.norm(dim=0).isfinite().all()):
            said = f"the output layer of {model.config.name_or_path} holds NaN or infinity"
            raise CheckpointError(f"{said}: fetch the checkpoint again")
        self._rotary = inner.rotary_emb

    def _pack(self, layer: Any) -> Layer:
        attention, mlp = layer.self_attn, layer.mlp
        before, after = (
            norm.weight.detach() * self.width**0.5 for norm in (layer.input_layernorm, layer.post_attention_layernorm)
        )
        q, k = (self._interleaved(projection.weight.detach()) for projection in (attention.q_proj, attention.k_proj))
        qkv = torch.cat((q * self.head**-0.5, k, attention.v_proj.weight.detach())) * before
        return Layer(
            qkv=_transposed(qkv),
            out=_transposed(attention.o_proj.weight.detach()),
            gate=_transposed(mlp.gate_proj.weight.detach() * after),
            up=_transposed(mlp.up_proj.weight.detach() * after),
            down=_transposed(mlp.down_proj.weight.detach()),
        )

    def _interleaved(self, rows: Tensor) -> Tensor:
        """Rows of q or k, [heads * head, ...], with the two halves of each head interleaved."""
        heads = rows.unflatten(0, (-1, 2, self.head // 2))
        interleaved: Tensor = heads.transpose(1, 2).reshape(rows.shape)
        return interleaved

    def rotations(self, length: int) -> Tensor:
        """exp(i angle) by position, for all heads of q and k: complex64 [length, (h + kv) head / 2]."""
        positions = torch.arange(length)[None]
        cos, sin = self._rotary(torch.zeros(1, dtype=torch.float32), positions)
        half = self.head // 2
        return torch.complex(cos[0, :, :half].float(), sin[0, :, :half].float()).repeat(1, self.heads + self.kv_heads)


def _transposed(matrix: Tensor) -> Tensor:
    return matrix.t().contiguous()


class LeanDecoder(Decoder):
    """Decoder (see `models/decoder.py`) with room for `max_length` positions, prompt included."""

    def __init__(self, model: InternVLForConditionalGeneration, weights: LeanWeights, max_length: int) -> None:
        super().__init__()
        self._model, self._weights = model, weights
        room = max_length + SPARE_ROWS
        parts = (weights.heads, weights.kv_heads, weights.kv_heads)
        self._rows = torch.zeros(len(weights.layers), room, sum(parts) * weights.head)
        rotated = sum(parts[:2]) * weights.head // 2
        self._pairs = torch.view_as_complex(self._rows.unflatten(2, (-1, 2)))[:, :, :rotated]
        by_head = self._rows.unflatten(2, (-1, weights.head)).transpose(1, 2)
        self._queries, self._keys, self._values = by_head.split(parts, 1)
        self._rotations = weights.rotations(room)
        self._masks = torch.full((PIECE_ROWS, room + PIECE_ROWS), -math.inf).triu_(room + 1)
        self._group = weights.heads // weights.kv_heads
        self._floor = torch.tensor((weights.width * weights.eps) ** 0.5)
        self.max_length = max_length
        self._lengths: Tensor = torch.empty(0)

    @staticmethod
    def covers(model: InternVLForConditionalGeneration) -> bool:
        """Whether this decoder computes what `model` does: a Llama-shaped language model on a CPU in float32."""
        text = model.config.get_text_config()
        static_rope = text.rope_parameters.get("rope_type", "default") in ("default", "dynamic")
        biased = isinstance(text, LlamaConfig) and (text.mlp_bias or text.attention_bias)
        plain = isinstance(text, LlamaConfig) and text.hidden_act == "silu" and not biased
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
            self._prompt, self._ids = prompt, list(prompt.input_ids)
            for piece in embedded.split(PIECE_ROWS):
                self._forward(piece, last_only=True)
            self.prompt_length = self.length
            return self._chosen()[0]

    def extend(self, tokens: Sequence[int]) -> list[int]:
        """See Decoder."""
        with torch.inference_mode():
            self._ids[self.length :] = tokens
            self._forward(self._weights.embedding[list(tokens)])
            return self._chosen()

    def _keep_rows(self, start: int, stop: int, kept: list[int]) -> None:
        if kept:
            self._rows[:, start:stop] = self._rows[:, kept]

    def _forward(self, x: Tensor, last_only: bool = False) -> None:
        weights, rows, start = self._weights, len(x), self.length
        if start + rows > self.max_length:
            raise ValueError(f"the cache has room for {self.max_length} positions, {start + rows} are needed")
        if rows % 4 == 3:
            x = torch.cat((x, x[-1:]))
        stop = start + len(x)
        mask = self._mask(start, stop).repeat(self._group, 1) if rows > 1 else None
        rotations = self._rotations[start:stop]
        views = (
            self._rows[:, start:stop],
            self._pairs[:, start:stop],
            self._queries[:, :, start:stop],
            self._keys[:, :, :stop].mT,
            self._values[:, :, :stop],
        )
        for layer, row, pairs, q, k, v in zip(weights.layers, *(view.unbind(0) for view in views), strict=True):
            torch.mm(self._normed(x), layer.qkv, out=row)
            pairs.mul_(rotations)
            x.addmm_(self._attend(q, k, v, mask), layer.out)
            y = self._normed(x)
            x.addmm_(F.silu(torch.mm(y, layer.gate)).mul_(torch.mm(y, layer.up)), layer.down)
        self.length = start + rows
        x = x[rows - 1 : rows] if last_only else x[:rows]
        self._lengths = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        self.last_logits = torch.mm(x / self._lengths.hypot(self._floor), weights.logits)

    def _chosen(self) -> list[int]:
        """The most likely ids after the last pass; raises CheckpointError unless the logits are numbers.

        They are if the lengths of the rows are, since the output layer's columns have finite lengths too
        (`LeanWeights`). A look at the chosen logits themselves, as `best_ids` has it, is 2 % of a small draft model's
        step.
        """
        for (length,) in self._lengths.tolist():
            if not math.isfinite(length):
                raise not_finite(self._model, self._ids, self._prompt.pixel_values)
        chosen: list[int] = self.last_logits.argmax(-1).tolist()
        return chosen

    def _mask(self, start: int, stop: int) -> Tensor:
        """What rows `start` to `stop` may not see of all rows up to `stop`, as -inf: a window of one strip."""
        if stop - start > PIECE_ROWS:
            return torch.full((stop - start, stop), -math.inf).triu_(start + 1)
        shift = self.max_length + SPARE_ROWS - start
        return self._masks[: stop - start, shift : shift + stop]

    def _normed(self, x: Tensor) -> Tensor:
        """RMS norm over sqrt(width), in three operations; `F.rms_norm` takes six on a CPU."""
        length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        return x / length.hypot(self._floor)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Attention of new rows over all cached: q [h, m, head], k [kv, head, n], v [kv, n, head] -> [m, h head]."""
        heads, rows, head = q.shape
        if self._group > 1:
            q = q.reshape(len(k), self._group * rows, head)
        scores = torch.bmm(q, k) if mask is None else torch.baddbmm(mask, q, k)
        mixed = torch.bmm(scores.softmax(-1), v).view(heads, rows, head)
        return mixed.transpose(0, 1).reshape(rows, heads * head)
