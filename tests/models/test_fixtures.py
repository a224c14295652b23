"""Both towers against the original code: prompts and greedy ids exactly, image features to 1e-5, logits to 3e-5.

Looser bounds miss mistakes (a wrong epsilon of the ViT's norm is 2.6e-5), so the fields that no bound can catch are
asserted by themselves.
"""

from __future__ import annotations

import pytest
import torch

from aiflow_cli.models.decoder import Decoder, ReferenceDecoder
from aiflow_cli.models.lean import LeanDecoder
from aiflow_cli.models.prompt import Prompt, prompt_ids
from aiflow_cli.models.vlm import VisionLanguageModel
from tests.models import fixtures
from tests.models.fixtures import MODELS, PICTURES, SAMPLES

pytestmark = fixtures.needed

LOGITS, FEATURES = 3e-5, 1e-5
NEW_TOKENS = 32
DECODERS = ("reference", "lean")


def decoder(model: VisionLanguageModel, kind: str) -> Decoder:
    if kind == "reference":
        return ReferenceDecoder(model.model)
    lean = model.decoder(256)
    assert isinstance(lean, LeanDecoder)
    return lean


def prompt(model: VisionLanguageModel, sample: str) -> Prompt:
    question = fixtures.document("reference")["question"]
    if sample == "text_only":
        return Prompt(prompt_ids(model.tokenizer, model.template, question, 0))
    return model.prepare(fixtures.picture(sample), question)


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    assert got.shape == expected.shape
    return float((got - expected).abs().max())


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("name", MODELS)
def test_prompt_ids(name: str, sample: str) -> None:
    assert prompt(fixtures.model(name), sample).input_ids == fixtures.sample(name, sample)["input_ids"]


@pytest.mark.parametrize("sample", PICTURES)
@pytest.mark.parametrize("name", MODELS)
def test_image_features(name: str, sample: str) -> None:
    pixels = fixtures.tensors("preprocess")[f"pixel_values.{sample}"]
    with torch.inference_mode():
        features = fixtures.model(name).model.model.get_image_features(pixel_values=pixels).pooler_output
    assert error(features, fixtures.tensors(name)[f"image_features.{sample}"]) < FEATURES


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("name", MODELS)
def test_logits_and_greedy_ids(name: str, sample: str, kind: str) -> None:
    """Token by token: prompt logits, the logits of 8 steps, all 32 ids though end tokens are among them."""
    model, expected = fixtures.model(name), fixtures.sample(name, sample)["greedy_ids_no_eos"]
    reference = fixtures.tensors(name)
    steps = decoder(model, kind)
    ids = [steps.prefill(prompt(model, sample))]
    assert error(steps.last_logits[-1], reference[f"prompt_logits_last.{sample}"]) < LOGITS
    for row in reference[f"decode_logits.{sample}"]:
        ids += steps.extend(ids[-1:])
        assert error(steps.last_logits[-1], row) < LOGITS
    while len(ids) < NEW_TOKENS:
        ids += steps.extend(ids[-1:])
    assert ids == expected


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("name", MODELS)
def test_eight_tokens_in_one_pass_after_others_were_forgotten(name: str, kind: str) -> None:
    model, expected = fixtures.model(name), fixtures.sample(name, "wide")["greedy_ids_no_eos"]
    verify = decoder(model, kind)
    verify.prefill(prompt(model, "wide"))
    verify.extend([5, 6, 7])
    verify.keep(verify.prompt_length)
    assert verify.extend(expected[:8]) == expected[1:9]
    assert error(verify.last_logits, fixtures.tensors(name)["decode_logits.wide"]) < LOGITS


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("name", MODELS)
def test_only_the_end_of_a_turn_stops(name: str, sample: str) -> None:
    """generation_config.json lists `<|im_start|>` as well, and tiny-26b emits it and `</s>` midway: neither stops."""
    model, expected = fixtures.model(name), fixtures.sample(name, sample)
    ids = expected["greedy_ids_no_eos"]
    stop = next((i + 1 for i, token in enumerate(ids) if token in model.eos_ids), len(ids))
    assert ids[:stop] == expected["greedy_ids"]
    assert model.tokenizer.decode(ids[:stop]).strip() == expected["chat_response"]


@pytest.mark.parametrize(("name", "factor"), [("tiny-2b", 2.0), ("tiny-26b", 3.0)])
def test_fields_that_the_values_do_not_prove(name: str, factor: float) -> None:
    """Epsilons and rope scaling change the logits of short prompts by less than the bounds, or not at all."""
    model = fixtures.model(name).model
    config = model.config
    text, vision = config.text_config, config.vision_config
    assert text.rms_norm_eps == 1e-5
    assert text.rope_parameters == {"rope_type": "dynamic", "rope_theta": 1e6, "factor": factor}
    assert text.max_position_embeddings == 32768
    assert vision.layer_norm_eps == 1e-6
    assert model.model.multi_modal_projector.layer_norm.eps == 1e-5
    assert vision.use_qk_norm is (name == "tiny-26b")
    assert vision.norm_type == ("rms_norm" if name == "tiny-26b" else "layer_norm")
    assert not config.tie_word_embeddings
    assert config.image_token_id == fixtures.document("reference")["img_context_token_id"]
    assert model.lm_head.weight is not model.model.language_model.embed_tokens.weight
