"""The arms of `aiflow bench` that run in this process: the same output from all, and an assistant that sees the
image.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path

import pytest

from aiflow_cli.errors import UsageError
from aiflow_cli.models.internvl2 import save_checkpoint
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.training.sizes import DRAFT, original_config
from aiflow_cli.trials.bench_inprocess import InProcess
from aiflow_cli.trials.schedule import Planned
from aiflow_cli.world.record import Trial
from tests.conftest import TinyPair, photograph
from tests.models.makers import random_model
from tests.world.trials import trial

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


def picture(seed: int, method: str = "server-only") -> Planned:
    return Planned(trial(method), photograph(seed))


@pytest.mark.parametrize("seed", range(3))
def test_all_arms_give_the_targets_output(target: VisionLanguageModel, draft: VisionLanguageModel, seed: int) -> None:
    here = in_process(target, draft)
    arms = (("server-only", here.serve), ("server-only", here.generate))
    more = (("co-located", here.serve), ("co-located", here.assisted))
    trials = [arm(picture(seed, method)) for method, arm in (*arms, *more)]
    assert all(one.tokens == trials[0].tokens for one in trials)
    for one in trials:
        check_times(one)
    assert all([came.n_tokens for came in one.deliveries] == [1] * one.n_tokens for one in trials[:2])
    assert trials[2].rounds


def check_times(one: Trial) -> None:
    times = [came.at_s for came in one.deliveries]
    assert times == sorted(times)
    assert 0 < one.ttft_s == times[0] <= times[-1] == one.latency_s
    assert sum(came.n_tokens for came in one.deliveries) == one.n_tokens > 1


def test_the_assistant_sees_the_image(target: VisionLanguageModel, tiny_pair: TinyPair) -> None:
    """A model that assists its like is always right, if it sees the same."""
    one = in_process(target, VisionLanguageModel.from_folder(tiny_pair.target)).assisted(picture(0))
    first, *rounds = (came.n_tokens for came in one.deliveries)
    assert first <= GAMMA + 1
    assert len(rounds) == math.ceil((one.n_tokens - first) / (GAMMA + 1))


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
