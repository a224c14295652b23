"""The arms of `aiflow bench` that run in this process: the same output from all, and an assistant that sees the image."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path

import pytest

from aiflow_cli.errors import UsageError
from aiflow_cli.images.imageset import ImageRecord
from aiflow_cli.models.internvl2 import save_checkpoint
from aiflow_cli.models.pair import find_pair
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.training.sizes import DRAFT, original_config
from aiflow_cli.trials.bench import BenchSettings
from aiflow_cli.trials.bench_inprocess import InProcess
from aiflow_cli.trials.store import Record
from tests.conftest import TinyPair, photograph
from tests.models.makers import random_model

QUESTION = "a red bus"
NEW_TOKENS = 24
GAMMA = 4


@pytest.fixture(scope="module")
def target(tiny_pair: TinyPair) -> VisionLanguageModel:
    return VisionLanguageModel.from_folder(tiny_pair.target)


@pytest.fixture(scope="module")
def draft(tiny_pair: TinyPair) -> VisionLanguageModel:
    return VisionLanguageModel.from_folder(tiny_pair.draft)


def in_process(target: VisionLanguageModel, draft: VisionLanguageModel) -> InProcess:
    return InProcess(target, draft, QUESTION, NEW_TOKENS, GAMMA)


def picture(seed: int) -> ImageRecord:
    return ImageRecord(f"photo{seed}", photograph(seed))


@pytest.mark.parametrize("seed", range(3))
def test_all_arms_give_the_targets_output(target: VisionLanguageModel, draft: VisionLanguageModel, seed: int) -> None:
    here = in_process(target, draft)
    records = [arm(picture(seed)) for arm in (here.server_only, here.generate, here.co_located, here.assisted)]
    assert all(record["tokens"] == records[0]["tokens"] for record in records)
    for record in records:
        check_times(record)
    one_by_one = [1] * records[0]["n_tokens"]
    assert [n for _, n in records[0]["deliveries"]] == [n for _, n in records[1]["deliveries"]] == one_by_one


def check_times(record: Record) -> None:
    times = [at_s for at_s, _ in record["deliveries"]]
    assert times == sorted(times)
    assert 0 < record["ttft_s"] == times[0] <= times[-1] == record["latency_s"]
    assert sum(n for _, n in record["deliveries"]) == record["n_tokens"] == len(record["tokens"]) > 1


def test_the_assistant_sees_the_image(target: VisionLanguageModel, tiny_pair: TinyPair) -> None:
    """A model that assists its like is always right, if it sees the same."""
    record = in_process(target, VisionLanguageModel.from_folder(tiny_pair.target)).assisted(picture(0))
    first, *rounds = (n for _, n in record["deliveries"])
    assert first <= GAMMA + 1
    assert len(rounds) == math.ceil((record["n_tokens"] - first) / (GAMMA + 1))


def test_the_assistant_is_left_as_it_was(target: VisionLanguageModel, draft: VisionLanguageModel) -> None:
    in_process(target, draft).assisted(picture(0))
    assert not draft.model._forward_pre_hooks


def test_an_assistant_with_another_prompt_is_refused(
    target: VisionLanguageModel, tiny_pair: TinyPair, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(tiny_pair.draft, folder)
    size = dataclasses.replace(DRAFT, view=56, vision=(1, 32, 2, 48), language=(1, 32, 2, 48))
    config = original_config(size, target.tokenizer.vocab_size)
    save_checkpoint(random_model(config, 0), config, folder)
    other = VisionLanguageModel.from_folder(folder)
    with pytest.raises(UsageError, match="draft other has another prompt than target target"):
        in_process(target, other).assisted(picture(0))


@pytest.mark.parametrize(
    ("wrong", "message"), [({"gamma": 0}, "gamma 0"), ({"gamma": 65}, "gamma 65"), ({"max_new_tokens": 1}, "1 new")]
)
def test_settings_out_of_bounds(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BenchSettings(pair=find_pair("small"), **wrong)  # type: ignore[arg-type]
