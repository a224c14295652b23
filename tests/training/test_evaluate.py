"""Marks of captions, and the commands that evaluate and show a pair."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from aiflow_cli.images.captions import describe
from aiflow_cli.images.scenes import scene_at
from aiflow_cli.training.evaluate import GAMMAS, Evaluation, Quality, grade
from tests.conftest import TinyPair
from tests.e2e.tools import aiflow, one_line


def test_a_right_caption_gets_every_mark_and_a_wrong_word_loses_one() -> None:
    scenes = [scene_at(2, i) for i in range(20)]
    captions = [describe(scene, np.random.default_rng(7)) for scene in scenes]
    assert grade(captions, scenes).slots == 1
    assert grade(captions, scenes).exact == 1
    weather = scenes[0].weather
    captions[0] = captions[0].replace(weather, "sunny" if weather != "sunny" else "foggy", 1)
    quality = grade(captions, scenes)
    assert quality.exact == 19 / 20
    assert quality.slot["weather"] == 19 / 20
    assert 0.99 < quality.slots < 1


def test_tokens_per_round_follow_from_the_matches() -> None:
    quality = Quality(1, {}, 1)
    perfect = Evaluation(1, quality, quality, [[True] * 30])
    assert perfect.tokens_per_round[4] == 5
    assert perfect.alpha == 1
    hopeless = Evaluation(1, quality, quality, [[False] * 30])
    assert set(hopeless.tokens_per_round.values()) == {1.0}
    assert set(hopeless.tokens_per_round) == set(GAMMAS)


def test_evaluate_gives_one_document(tiny_pair: TinyPair, tmp_path: Path) -> None:
    finished = aiflow("pairs", "evaluate", "small", *tiny_pair.options, "--scenes", 2, "--json", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    assert set(document["target"]) == set(document["draft"]) == {"slots", "slot", "exact"}
    assert document["target"]["slots"] == 0  # random weights
    assert [int(gamma) for gamma in document["tokens_per_round"]] == list(GAMMAS)
    assert 1 <= document["tokens_per_round"]["4"] <= 5


def test_gallery_is_one_page_with_its_pictures(tiny_pair: TinyPair, tmp_path: Path) -> None:
    page = tmp_path / "gallery.html"
    finished = aiflow("pairs", "gallery", "small", *tiny_pair.options, "--scenes", 2, "-o", page, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 2
    assert "wrong: " in text
    assert "http" not in text


def test_pairs_of_another_tokenizer_are_refused(tiny_pair: TinyPair, tmp_path: Path) -> None:
    options = ("--target", tiny_pair.target, "--draft", tiny_pair.stranger)
    finished = aiflow("pairs", "evaluate", "small", *options, cwd=tmp_path)
    assert finished.returncode == 1
    assert "different tokenizers" in one_line(finished)
