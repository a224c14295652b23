"""What tests of several folders share: a tiny pair with random weights, and photographs."""

from __future__ import annotations

import dataclasses
import io
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, settings

from tests import starter

if TYPE_CHECKING:
    from transformers import InternVLForConditionalGeneration

MUTATED = "MUTANT_UNDER_TEST" in os.environ
"""Whether this is `make mutants`, which asks of a test no more than whether it fails."""
PHASES = [Phase.explicit, Phase.generate] if MUTATED else list(Phase)

settings.register_profile("aiflow", deadline=None, phases=PHASES)  # a busy machine is no failure
settings.load_profile("aiflow")
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # ignored where tests run in the background, and children inherit that

starter.install()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For `make mutants`, what draws many examples comes last: most faults are noticed before."""
    if MUTATED:
        items.sort(key=lambda item: hasattr(getattr(item, "obj", None), "hypothesis"))


@pytest.fixture(autouse=True)
def start_up(request: pytest.FixtureRequest) -> Iterator[None]:
    """Commands start in the usual way in tests of the start itself, which are marked with this name."""
    # `make mutants` forks this process, whose stem would be left behind
    starter.enable(request.node.get_closest_marker("start_up") is None and not MUTATED)
    yield
    starter.enable(True)


@dataclass(frozen=True)
class TinyPair:
    """Folders of a target and of a draft that agrees with it most of the time, but not always; and one with another
    tokenizer.
    """

    target: Path
    draft: Path
    stranger: Path

    @property
    def options(self) -> list[str]:
        """The pair, as options of `aiflow run`."""
        return ["--target", str(self.target), "--draft", str(self.draft)]


@pytest.fixture(scope="session")
def tiny_pair(tmp_path_factory: pytest.TempPathFactory) -> TinyPair:
    root = tmp_path_factory.mktemp("pair")
    pair = TinyPair(root / "target", root / "draft", root / "stranger")
    size = _tokenizer(pair.target, seed=0)
    _copy_tokenizer(pair.target, pair.draft)
    target, config = _model(size, seed=0)
    _save(target, config, pair.target)
    _perturb(target, 0.06)
    _save(target, config, pair.draft)
    stranger, config = _model(_tokenizer(pair.stranger, seed=1), seed=1)
    _save(stranger, config, pair.stranger)
    return pair


def _tokenizer(folder: Path, seed: int) -> int:
    from aiflow_cli.training.vocabulary import train_tokenizer

    words = [
        "red",
        "blue",
        "bus",
        "car",
        "truck",
        "left",
        "right",
        "a",
        "the",
        "street",
        "rain",
        "heads",
        "near",
        "two",
    ]
    rng = random.Random(seed)
    return train_tokenizer([" ".join(rng.choices(words, k=8)) + "." for _ in range(200)], folder)


def _copy_tokenizer(source: Path, folder: Path) -> None:
    folder.mkdir()
    for name in ("tokenizer.model", "added_tokens.json", "tokenizer_config.json"):
        (folder / name).write_bytes((source / name).read_bytes())


def _model(vocab_size: int, seed: int) -> tuple[InternVLForConditionalGeneration, dict[str, Any]]:
    import torch
    from transformers import InternVLForConditionalGeneration

    from aiflow_cli.models.internvl2 import build_config
    from aiflow_cli.training.sizes import DRAFT, original_config

    size = dataclasses.replace(DRAFT, vision=(1, 32, 2, 64), language=(2, 64, 2, 128))
    config = original_config(size, vocab_size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = InternVLForConditionalGeneration(build_config(config)).eval()
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                torch.nn.init.normal_(parameter.data, std=0.2)
    return model, config


def _perturb(model: InternVLForConditionalGeneration, share: float) -> None:
    import torch

    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data += share * parameter.data.std(correction=0) * noise


def _save(model: InternVLForConditionalGeneration, config: dict[str, Any], folder: Path) -> None:
    from aiflow_cli.models.internvl2 import save_checkpoint

    save_checkpoint(model, config, folder, dtype="float32")


def photograph(seed: int = 0, side: int = 160) -> bytes:
    """A JPEG of coloured blocks, some kilobytes long."""
    from PIL import Image

    rng = random.Random(seed)
    small = Image.frombytes("RGB", (8, 8), bytes(rng.randrange(256) for _ in range(8 * 8 * 3)))
    buffer = io.BytesIO()
    small.resize((side, side)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    for seed in range(3):
        (folder / f"photo{seed}.jpg").write_bytes(photograph(seed))
    return folder
