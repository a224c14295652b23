"""Training: what is learned is what the program decodes, deep starts where shallow stood, a break loses nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import InternVLForConditionalGeneration

from aiflow_cli.images.captions import describe
from aiflow_cli.images.drawing import encode_jpeg, render
from aiflow_cli.images.scenes import scene_at
from aiflow_cli.models.internvl2 import build_config, save_checkpoint
from aiflow_cli.models.preprocessing import pixel_values
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.training.data import TrainingData, render_training_data
from aiflow_cli.training.evaluate import greedy_ids
from aiflow_cli.training.language import (
    CaptionTask,
    Schedule,
    deepen,
    greedy_captions,
    new_caption_model,
    train_captions,
)
from aiflow_cli.training.sizes import DRAFT, QUESTION, original_config
from aiflow_cli.training.vision import normalise
from aiflow_cli.training.vocabulary import Words, train_tokenizer

SIZE = dataclasses.replace(DRAFT, vision=(1, 32, 2, 64), language=(2, 64, 2, 128))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return render_training_data(TrainingData(tmp_path_factory.mktemp("scenes"), seed=5, count=16), workers=1)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Words:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer((describe(scene_at(1, i), np.random.default_rng(i)) for i in range(300)), folder)
    return Words(folder)


def new_model(words: Words, layers: int = 2, seed: int = 0) -> InternVLForConditionalGeneration:
    original = original_config(SIZE, words.vocab_size)
    original["llm_config"]["num_hidden_layers"] = layers
    return new_caption_model(build_config(original, words.image_token_id), None, seed).eval()


def train(
    words: Words, data: TrainingData, checkpoint: Path, steps: int, stop_after: int | None = None
) -> torch.Tensor:
    """The output matrix after `steps`; with `stop_after` the first try dies in its first judging after so many."""

    def judge(_: InternVLForConditionalGeneration) -> float:
        return 0.0

    def dying(_: InternVLForConditionalGeneration) -> float:
        if json.loads(counter.read_text()) >= (stop_after or 0):
            raise KeyboardInterrupt
        counter.write_text("99")
        return 0.0

    counter = checkpoint.with_suffix(".count")
    counter.write_text("0")
    task, schedule = CaptionTask(words, SIZE, data), Schedule(steps, batch=4, judge_every=2)
    if stop_after is not None:
        with pytest.raises(KeyboardInterrupt):
            train_captions(new_model(words), task, schedule, checkpoint, dying, lambda *_: None)
    model = new_model(words)
    history = train_captions(model, task, schedule, checkpoint, judge, lambda *_: None)
    assert [step for step, _, _ in history] == [2, 4, 6]
    learned: torch.Tensor = model.lm_head.weight.detach()
    return learned


def test_training_learns_and_goes_on_after_a_break(words: Words, data: TrainingData, tmp_path: Path) -> None:
    unbroken = train(words, data, tmp_path / "a.pt", 6)
    broken = train(words, data, tmp_path / "b.pt", 6, stop_after=1)
    assert torch.equal(unbroken, broken)
    assert not torch.equal(unbroken, new_model(words).lm_head.weight)


def test_deeper_model_computes_what_the_shallow_one_does(words: Words, data: TrainingData) -> None:
    shallow = new_model(words)
    original = original_config(SIZE, words.vocab_size)
    original["llm_config"]["num_hidden_layers"] = 6
    deep = deepen(shallow, build_config(original, words.image_token_id), seed=3).eval()
    assert len(deep.model.language_model.layers) == 6
    task = CaptionTask(words, SIZE, data)
    assert greedy_captions(deep, data.view(112)[:4], task, 20) == greedy_captions(shallow, data.view(112)[:4], task, 20)


def test_what_was_trained_is_what_the_program_decodes(words: Words, data: TrainingData, tmp_path: Path) -> None:
    """Batches of pictures in training, one JPEG through checkpoint, preprocessing, prompt, decoder later: same ids."""
    model = new_model(words, seed=2)
    folder = tmp_path / "checkpoint"
    save_checkpoint(model, original_config(SIZE, words.vocab_size), folder, dtype="float32")
    train_tokenizer((describe(scene_at(1, i), np.random.default_rng(i)) for i in range(300)), folder)
    loaded = VisionLanguageModel.from_folder(folder)
    image = encode_jpeg(render(scene_at(5, 0)))
    prompt = loaded.prepare(image, QUESTION)
    assert prompt.input_ids == words.prompt(SIZE.image_tokens)
    assert prompt.pixel_values is not None
    trained_on = normalise(data.view(112)[:1])
    assert (prompt.pixel_values - trained_on).abs().mean() < 0.1  # JPEG and the order of its reduction
    seen = pixel_values(image, loaded.tiling)
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    picture = ((seen[0].permute(1, 2, 0) * std + mean) * 255).round().to(torch.uint8).numpy()
    said = greedy_captions(model, picture[None], CaptionTask(words, SIZE, data), max_new=24)[0]
    assert greedy_ids(loaded.decoder(256), loaded, image, QUESTION, 24) == said
