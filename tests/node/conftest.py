"""The tiny pair's models, loaded once for the tests of this folder."""

from __future__ import annotations

import pytest

from aiflow_cli.models.vlm import VisionLanguageModel
from tests.conftest import TinyPair


@pytest.fixture(scope="session")
def tiny_target(tiny_pair: TinyPair) -> VisionLanguageModel:
    return VisionLanguageModel.from_folder(tiny_pair.target)
