"""Plans without weights: the parameter counts of the released models, bytes, what fits where; nothing is fetched."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from aiflow_cli.cli.app import app
from aiflow_cli.errors import PrerequisiteError
from aiflow_cli.models.config import build_config, is_original
from aiflow_cli.models.conversion import model_class
from aiflow_cli.models.dry_run import CONFIGS_FOLDER, Place, plan_pair, spread_bytes
from aiflow_cli.models.internvl2 import meta_model
from aiflow_cli.models.pair import find_pair, registry
from aiflow_cli.models.prompt import find_template
from aiflow_cli.models.vlm import VisionLanguageModel
from tests.conftest import TinyPair

RELEASED = {"2B": 2_205_754_368, "8B": 8_075_365_376, "26B": 25_514_186_112}
FROM_MEMORY = {"1B": 0.938e9, "4B": 4.147e9, "40B": 40.07e9, "Llama3-76B": 76.26e9}
GB = 1_000_000_000


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, and a hub that cannot be reached."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


def parameters(name: str) -> int:
    config = json.loads((CONFIGS_FOLDER / f"InternVL2-{name}.json").read_text())
    assert is_original(config)
    find_template(config)
    return sum(p.numel() for p in meta_model(model_class(config), build_config(config)).parameters())


@pytest.mark.parametrize("name", RELEASED)
def test_parameters_of_the_released_models(name: str) -> None:
    assert parameters(name) == RELEASED[name]


@pytest.mark.parametrize("name", FROM_MEMORY)
def test_parameters_of_the_others(name: str) -> None:
    assert parameters(name) == pytest.approx(FROM_MEMORY[name], rel=1e-3)


def test_every_pair_of_the_registry_can_be_planned() -> None:
    for spec in registry().values():
        if not spec.name.startswith("small"):  # it ships with its weights
            assert plan_pair(spec, []).target.parameters > 10**9


def test_the_papers_pair() -> None:
    begun_s = time.process_time()
    places = [Place("cpu", "", 32 * GB, 30 * GB), *(Place(f"cuda:{i}", "", 24 * GB, 24 * GB) for i in range(3))]
    plan = plan_pair(find_pair("internvl2-2b-26b"), places)
    assert time.process_time() - begun_s < 30
    draft, target = plan.draft, plan.target
    assert (draft.parameters, target.parameters) == (RELEASED["2B"], RELEASED["26B"])
    assert (draft.vision_parameters, target.vision_parameters) == (304_012_288, 5_536_496_000)
    assert target.weight_bytes["bfloat16"] == 2 * RELEASED["26B"]
    assert (draft.kv_bytes_per_token["bfloat16"], target.kv_bytes_per_token["bfloat16"]) == (98_304, 196_608)
    assert target.weight_bytes["int4"] < target.weight_bytes["int8"] < 0.7 * target.weight_bytes["bfloat16"]
    assert target.longest == 13 * 256 + 128 + 512
    answers = {(fit.where, fit.what, fit.form): fit.fits for fit in plan.fits}
    assert answers["cpu", "draft", "bfloat16"]
    assert not answers["cpu", "both", "bfloat16"]
    assert answers["cuda:0", "draft", "bfloat16"]
    assert not answers["cuda:0", "target", "bfloat16"]
    over_three = plan.fits[-1]
    assert over_three.fits
    assert sum(over_three.devices.values()) == target.weight_bytes["bfloat16"]
    assert max(over_three.devices.values()) < 24 * GB
    assert not plan_pair(find_pair("internvl2-2b-26b"), places[1:3]).fits[-1].fits  # two are too few


def test_accelerate_splits_no_layer() -> None:
    config = json.loads((CONFIGS_FOLDER / "InternVL2-2B.json").read_text())
    model = meta_model(model_class(config), build_config(config))
    held = spread_bytes(model, {0: 3 * GB, 1: 3 * GB})
    assert sum(held.values()) == 2 * RELEASED["2B"]
    assert held.get("rest", 0) == 0
    assert 0 < held[1] < held[0] <= 3 * GB
    assert spread_bytes(model, {0: 1 * GB})["rest"] > 3 * GB


def test_a_plan_of_folders_is_what_loading_finds(tiny_pair: TinyPair) -> None:
    plan = plan_pair(find_pair("small", str(tiny_pair.draft), str(tiny_pair.target)))
    model = VisionLanguageModel.from_folder(tiny_pair.target)
    assert plan.target.parameters == model.parameters
    assert plan.target.name == "target"
    assert plan.places[0].name == "cpu"
    assert all(fit.fits for fit in plan.fits)


def test_unknown_model_is_not_fetched() -> None:
    with pytest.raises(PrerequisiteError, match="`aiflow pull Some/Model`"):
        plan_pair(find_pair("internvl2-2b-26b", target="Some/Model"))


def test_show() -> None:
    shown = CliRunner().invoke(app, ["pairs", "show", "internvl2-2b-26b", "--gpu", "80GB", "--gpu", "24GB"])
    assert shown.exit_code == 0, shown.stderr
    assert shown.stderr == ""
    for text in ("25,514,186,112", "51.03", "196,608", "51.8 yes", "51.8 no", "ships with aiflow"):
        assert text in shown.stdout
    document = json.loads(CliRunner().invoke(app, ["pairs", "show", "internvl2-2b-8b", "--json"]).stdout)
    assert document["target"]["parameters"] == RELEASED["8B"]
    assert document["schema_version"] == 1
