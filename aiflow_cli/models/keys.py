"""Which keys of a config.json are read, which do not matter here, and why. Any other is refused by name.

A key that is passed over can mean another computation, and other tokens without a word: configurations name features
that this loader does not know, and newer libraries write what it does know in other places. A null key is not set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiflow_cli.errors import CheckpointError
from aiflow_cli.models.files import some

NO_MATTER: dict[str, str] = {
    "what generate() would do: decoding is greedy here, and ends where the template says": """
        bad_words_ids begin_suppress_tokens bos_token_id decoder_start_token_id diversity_penalty do_sample
        early_stopping encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty forced_bos_token_id
        forced_eos_token_id length_penalty max_length max_new_tokens min_length no_repeat_ngram_size num_beam_groups
        num_beams num_return_sequences output_scores pad_token_id prefix remove_invalid_values repetition_penalty
        return_dict_in_generate sep_token_id suppress_tokens temperature top_k top_p typical_p""",
    "what a forward pass gives back beside its result": """
        output_attentions output_hidden_states return_dict torchscript use_cache""",
    "training alone": """
        attention_dropout attention_probs_dropout_prob drop_path_rate dropout embd_pdrop gradient_checkpointing
        hidden_dropout_prob initializer_factor initializer_range layer_scale_init_value pretraining_tp problem_type
        projection_dropout resid_pdrop tf_legacy_loss""",
    "what the weights are stored or were computed in: --dtype decides": "dtype torch_dtype use_bfloat16",
    "how attention is computed, not what": """
        _attn_implementation _attn_implementation_autoset attn_implementation chunk_size_feed_forward use_flash_attn
        use_fused_norm""",
    "names and notes": """
        _commit_hash _name_or_path auto_map finetuning_task id2label label2id name_or_path task_specific_params
        tokenizer_class transformers_version""",
    "of encoders with a decoder, which these are not": "is_decoder tie_encoder_decoder",
    "of experts, which `use_moe` says there are none of": """
        capacity_factor eval_capacity_factor laux_allreduce moe_coeff_ratio moe_intermediate_size moe_output_scale
        noisy_gate_policy num_experts num_routed_experts num_shared_experts shared_expert_intermediate_size use_residual
        use_rts use_weighted_residual""",
}
"""Why keys do not matter -> the keys."""
_PASSED_OVER = frozenset(" ".join(NO_MATTER.values()).split())
Only = dict[str, tuple[Any, ...]]
"""Keys of which some values alone can be computed."""
_ONLY: Only = dict.fromkeys(("add_cross_attention", "is_encoder_decoder", "use_moe"), (False,)) | {
    "pruned_heads": ({},)
}


@dataclass(frozen=True)
class Keys:
    """What is known of one part of a config.json: keys that are read, and those of which only some values are taken."""

    read: frozenset[str]
    only: Only

    def check(self, part: Mapping[str, Any], where: str = "") -> None:
        """Raise CheckpointError for a key of `part` that is set and not known, or whose value cannot be computed.

        `where` begins its name.
        """
        only, given = _ONLY | self.only, {name: value for name, value in part.items() if value is not None}
        if unknown := sorted(given.keys() - only.keys() - self.read - _PASSED_OVER):
            names = some([where + name for name in unknown])
            said = f"{names} is not known here and could change what the model computes"
            raise CheckpointError(f"{said}: only checkpoints of InternVL as published are read")
        for name, values in only.items():
            if name in given and given[name] not in values:
                known = " or ".join(map(repr, values))
                raise CheckpointError(f"{where}{name} {given[name]!r} is not supported: it can be {known}")


def keys(read: str, only: Only | None = None) -> Keys:
    """Keys by names in one text; one that is read may have any value."""
    names = frozenset(read.split())
    return Keys(names, {name: values for name, values in (only or {}).items() if name not in names})


ORIGINAL = keys(
    "downsample_ratio dynamic_image_size force_image_size llm_config max_dynamic_patch min_dynamic_patch select_layer "
    "template use_thumbnail vision_config hidden_size",
    {
        "architectures": (["InternVLChatModel"],),
        "image_fold": (),
        "model_type": ("internvl_chat",),
        "pad2square": (False,),
        "ps_version": ("v2",),
        "system_message": (),
        "tie_word_embeddings": (False,),
        "use_backbone_lora": (0,),
        "use_llm_lora": (0,),
    },
)
VISION = keys(
    "hidden_size hidden_act image_size intermediate_size layer_norm_eps num_attention_heads num_hidden_layers "
    "patch_size qk_normalization qkv_bias initializer_factor",
    {
        "architectures": (["InternVisionModel"],),
        "model_type": ("intern_vit_6b",),
        "norm_type": ("layer_norm", "rms_norm"),
        "num_channels": (3,),
    },
)
HF = keys(
    "architectures downsample_ratio image_seq_length image_token_id projector_hidden_act text_config "
    "tie_word_embeddings vision_config vision_feature_layer",
    {"model_type": ("internvl",), "vision_feature_select_strategy": ("default",)},
)
"""transformers' own layout; its parts are of classes that know their own keys."""
_LANGUAGE = (
    "head_dim hidden_act hidden_size intermediate_size max_position_embeddings num_attention_heads "
    "num_hidden_layers num_key_value_heads rms_norm_eps rope_parameters rope_scaling rope_theta vocab_size"
)
_QWEN2 = "layer_types max_window_layers sliding_window use_sliding_window"
_PHI3 = "original_max_position_embeddings sliding_window"
LANGUAGES = {
    architecture: keys(
        f"{_LANGUAGE} {more}",
        dict.fromkeys(("attention_bias", "bias", "mlp_bias", "tie_word_embeddings", "use_mrope"), (False,))
        | {"architectures": ([architecture],), "model_type": (model_type,)}
        | {"moe_config": (), "partial_rotary_factor": (1.0,)},
    )
    for architecture, model_type, more in (
        ("InternLM2ForCausalLM", "internlm2", "bias"),
        ("LlamaForCausalLM", "llama", "attention_bias mlp_bias"),
        ("Qwen2ForCausalLM", "qwen2", _QWEN2),
        ("Phi3ForCausalLM", "phi3", _PHI3),
    )
}
"""Of each language model of the series."""
_WHOLE: Only = {"partial_rotary_factor": (1.0,)}
_SCALED = keys("rope_type type rope_theta factor", _WHOLE)
ROPE = {
    "default": keys("rope_type type rope_theta", _WHOLE | {"factor": (1.0,)}),
    "linear": _SCALED,
    "dynamic": _SCALED,
    "longrope": keys("rope_type type rope_theta short_factor long_factor original_max_position_embeddings", _WHOLE),
}
"""Of each kind of rotary embedding."""
