"""Numbers of the original InternVL2 code, in this repository: pixels, ids, logits and outputs at chosen places.

`reference/` holds three pictures, a checkpoint with random weights (tiny-2b) and `numbers.json`. All of it was made
with OpenGVLab/InternVL, commit 2410d1dbf208f0e799459aff9376e5747dbf41a2 (`internvl_chat`), torch 2.13.0, transformers
4.37.2 and pillow 13.0.0, in float32 on a CPU. `chosen` says which of the original's outputs are kept: the whole of them
is 0.7 MB, and lies beside this repository on some machines (`fixtures.py`), where the numbers are compared with it.

Of the pair that ships there is no output of the original code: its numbers are this program's own, written when it
agreed with the original in all that the fixtures hold.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from aiflow_cli.images.source import open_images
from aiflow_cli.models.pair import find_pair
from aiflow_cli.models.preprocessing import Tiling, pixel_values
from aiflow_cli.models.prompt import Prompt, prompt_ids
from aiflow_cli.models.tokenizer import SentencePieceTokenizer
from aiflow_cli.models.vlm import VisionLanguageModel
from tests.models import fixtures
from tests.models.fixtures import PICTURES, SAMPLES

HERE = Path(__file__).parent / "reference"
NAME = "tiny-2b"
PLACES = ((0, 0), (13, 40), (28, 28), (55, 3))
"""Row and column of the pixels that are kept, in each tile and channel."""
EVERY = 27
"""Of a row of logits, each 27th is kept."""
ROWS = (0, 7)
"""Of eight decode steps, the rows that are kept."""
LOGITS = 3e-5


@cache
def numbers() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / "numbers.json").read_text(encoding="utf-8"))
    return found


@cache
def tiny() -> VisionLanguageModel:
    return VisionLanguageModel.from_folder(HERE / NAME)


def picture(name: str) -> bytes:
    return (HERE / f"{name}.png").read_bytes()


def at_places(pixels: Tensor) -> list[list[list[float]]]:
    """Of pixels [tiles, 3, side, side]: [tiles][places][3]."""
    kept: list[list[list[float]]] = torch.stack([pixels[:, :, y, x] for y, x in PLACES], dim=1).tolist()
    return kept


def some(logits: Tensor) -> list[float]:
    kept: list[float] = logits[::EVERY].tolist()
    return kept


def chosen() -> dict[str, Any]:
    """What of the original's outputs is in numbers.json; see the module's words."""
    pixels, tensors = fixtures.tensors("preprocess"), fixtures.tensors(NAME)
    reference = {sample: fixtures.sample(NAME, sample) for sample in SAMPLES}
    return {
        "question": fixtures.document("reference")["question"],
        "pixels": {name: at_places(pixels[f"pixel_values.{name}"]) for name in PICTURES},
        "prompt_ids": {name: reference[name]["input_ids"] for name in SAMPLES},
        "greedy_ids": {name: reference[name]["greedy_ids_no_eos"] for name in SAMPLES},
        "prompt_logits": {name: some(tensors[f"prompt_logits_last.{name}"]) for name in SAMPLES},
        "step_logits": {name: [some(tensors[f"decode_logits.{name}"][row]) for row in ROWS] for name in SAMPLES},
        "text_ids": {case["text"]: case["input_ids"] for case in fixtures.document("tokenizer")["cases"]},
    }


@fixtures.needed
def test_numbers_are_the_originals() -> None:
    kept = numbers()
    assert {name: kept[name] for name in chosen()} == chosen()
    for path in (*HERE.glob("*.png"), *(HERE / NAME).iterdir()):
        original = fixtures.ROOT / (NAME if path.parent.name == NAME else "images") / path.name
        assert path.read_bytes() == original.read_bytes()


@pytest.mark.parametrize("name", PICTURES)
def test_pixels(name: str) -> None:
    """Exactly: a grey level is 0.0175, and a mean or deviation that is wrong in its third digit is 0.002."""
    assert at_places(pixel_values(picture(name), Tiling(tile=56))) == numbers()["pixels"][name]


def test_ids_of_texts() -> None:
    tokenizer = SentencePieceTokenizer(HERE / NAME)
    for text, ids in numbers()["text_ids"].items():
        assert tokenizer.encode(text) == ids, text


def prompt(model: VisionLanguageModel, sample: str) -> Prompt:
    question = numbers()["question"]
    if sample == "text_only":
        return Prompt(prompt_ids(model.tokenizer, model.template, question, 0))
    return model.prepare(picture(sample), question)


@pytest.mark.parametrize("sample", SAMPLES)
def test_ids_of_prompts(sample: str) -> None:
    assert prompt(tiny(), sample).input_ids == numbers()["prompt_ids"][sample]


@pytest.mark.parametrize("sample", SAMPLES)
def test_logits_and_greedy_ids(sample: str) -> None:
    kept, expected = numbers(), numbers()["greedy_ids"][sample]
    decoder = tiny().decoder(256)
    ids = [decoder.prefill(prompt(tiny(), sample))]
    rows = [decoder.last_logits[-1]]
    while len(ids) < len(expected):
        ids += decoder.extend(ids[-1:])
        rows.append(decoder.last_logits[-1])
    assert ids == expected
    assert some(rows[0]) == pytest.approx(kept["prompt_logits"][sample], abs=LOGITS)
    for row, logits in zip(ROWS, kept["step_logits"][sample], strict=True):
        assert some(rows[row + 1]) == pytest.approx(logits, abs=LOGITS)


def shipped(role: str) -> dict[str, Any]:
    """Pixels, ids and logits of a model that ships, for the first rendered scene."""
    pair = find_pair("small")
    model = VisionLanguageModel.from_folder(pair.folder(role))
    (scene,) = open_images("scenes", 1, 0)
    asked = model.prepare(scene.data, pair.question)
    decoder = model.decoder(256)
    ids = [decoder.prefill(asked)]
    logits = some(decoder.last_logits[-1])
    for _ in range(11):
        ids += decoder.extend(ids[-1:])
    assert asked.pixel_values is not None
    return {"pixels": at_places(asked.pixel_values), "prompt_ids": asked.input_ids, "ids": ids, "logits": logits}


@pytest.mark.parametrize("role", ["target", "draft"])
def test_the_pair_that_ships(role: str) -> None:
    """Pixels within two grey levels, for another JPEG library; logits as far as that moves them."""
    got, kept = shipped(role), numbers()["shipped"][role]
    assert (got["prompt_ids"], got["ids"]) == (kept["prompt_ids"], kept["ids"])
    assert torch.allclose(torch.tensor(got["pixels"]), torch.tensor(kept["pixels"]), rtol=0, atol=0.036)
    assert got["logits"] == pytest.approx(kept["logits"], abs=0.05)
