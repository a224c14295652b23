"""The tiny pair's models, loaded once for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from aiflow_cli.models.vlm import VisionLanguageModel
from tests.conftest import TinyPair


@pytest.fixture(scope="session")
def tiny_target(tiny_pair: TinyPair) -> VisionLanguageModel:
    return VisionLanguageModel.from_folder(tiny_pair.target)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the program computes by default: several threads wait for one another where others keep the cores busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
