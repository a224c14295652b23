"""Prompt and answer have the model's own positions, and nothing is made for those that have too few."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiflow_cli.decoding.actions import DraftTokens, Extend, Prefill
from aiflow_cli.errors import UsageError
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.compute import Compute
from aiflow_cli.wire.messages import Picture
from tests.conftest import TinyPair, photograph
from tests.e2e.tools import aiflow, one_line


@pytest.fixture(scope="module")
def model(tiny_pair: TinyPair) -> VisionLanguageModel:
    return VisionLanguageModel.from_folder(tiny_pair.draft)


def prefill(question: str, max_new_tokens: int) -> Prefill:
    picture = Picture(photograph())
    return Prefill(model="target", input=picture, prompt=question, max_new_tokens=max_new_tokens)


def test_an_answer_may_take_all_that_the_prompt_leaves(model: VisionLanguageModel) -> None:
    left = model.positions - len(model.prepare(photograph(), "a red bus"))
    compute = Compute(model)
    compute.prefill(prefill("a red bus", left))
    drafted = tuple(compute.draft(DraftTokens(keep=0, feed=(5,), count=left - 2, stop_ids=frozenset())))
    assert len(compute.extend(Extend(keep=0, tokens=(5, *drafted)))) == left - 1


def test_more_than_the_model_has_is_refused_before_anything_is_made(model: VisionLanguageModel) -> None:
    left = model.positions - len(model.prepare(photograph(), "a red bus"))
    compute = Compute(model)
    with pytest.raises(UsageError, match=f"the {model.positions} positions of draft: ask for at most {left} with"):
        compute.prefill(prefill("a red bus", left + 1))
    with pytest.raises(UsageError, match="positions of draft: shorten the prompt"):
        compute.prefill(prefill("a red bus " * 300, 1))
    assert not hasattr(compute, "_decoder")
    with pytest.raises(UsageError, match="positions"):
        model.decoder(model.positions + 1)


def test_a_request_is_checked_without_an_image(model: VisionLanguageModel) -> None:
    model.check_request("a red bus", 96)
    for question, count in (("a red bus", 4096), ("a red bus " * 300, 1), ("a <img> bus", 1)):
        with pytest.raises(UsageError):
            model.check_request(question, count)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--prompt", "What is </img> this?"), "the prompt holds </img>"),
        (("--max-new-tokens", "4096"), "do not fit into the 512 positions of draft: ask for at most"),
    ],
    ids=["marker", "answer"],
)
def test_a_run_is_refused_on_the_device(
    options: tuple[str, ...], reason: str, tiny_pair: TinyPair, photographs: Path, tmp_path: Path
) -> None:
    done = aiflow("run", *tiny_pair.options, "--data", photographs, "-o", tmp_path / "result", *options)
    assert done.returncode == 2
    assert reason in one_line(done)
