"""Where a model's weights go, and how much of the host's memory loading them takes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from aiflow_cli.errors import UsageError
from aiflow_cli.models.decoder import ReferenceDecoder
from aiflow_cli.models.internvl2 import is_spread, load_model, save_checkpoint
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.training.sizes import TARGET, original_config
from tests.models import fixtures, makers

MEASURE = """
import json, sys, threading, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from aiflow_cli.models import internvl2, lean, vlm

def anonymous():
    with open("/proc/self/smaps_rollup") as rollup:
        return next(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Anonymous:"))

def watch():
    while not done.is_set():
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.03)  # looking costs the kernel a walk over all pages

folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
if options.get("offload"):
    options["offload"] = Path(options["offload"])
internvl2.load_model(Path(sys.argv[3]), **options)  # what loading a model costs by itself: code, threads, pools
done, peak, before = threading.Event(), [0], anonymous()
watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
model = internvl2.load_model(folder, **options)
done.set()
watcher.join()
print(json.dumps({"peak": peak[0] - before, "kept": anonymous() - before}))
"""


@fixtures.needed
@pytest.mark.parametrize("device", ["auto", "cpu:0"])
def test_other_names_of_the_same_place(device: str) -> None:
    model = VisionLanguageModel.from_folder(fixtures.ROOT / "tiny-26b", device)
    assert greedy(model, 32) == fixtures.sample("tiny-26b", "wide")["greedy_ids_no_eos"]


def greedy(model: VisionLanguageModel, count: int) -> list[int]:
    decoder = model.decoder(256)
    ids = [decoder.prefill(model.prepare(fixtures.picture("wide"), fixtures.document("reference")["question"]))]
    while len(ids) < count:
        ids += decoder.extend(ids[-1:])
    return ids


def half(folder: Path) -> dict[int | str, int]:
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors")]
    return {"cpu": int(sum(sizes) * 2 * 0.6)}  # bfloat16 files, float32 here


@fixtures.needed
def test_model_spread_over_two_places(tmp_path: Path) -> None:
    """Host and disk stand in for two GPUs: accelerate moves the weights, transformers' forward is what runs."""
    folder = fixtures.ROOT / "tiny-26b"
    model = load_model(folder, "auto", image_token_id=642, max_memory=half(folder), offload=tmp_path)
    assert is_spread(model)
    whole = fixtures.model("tiny-26b")
    spread = VisionLanguageModel("spread", model, whole.tokenizer, whole.original)
    assert isinstance(spread.decoder(64), ReferenceDecoder)
    assert greedy(spread, 8) == fixtures.sample("tiny-26b", "wide")["greedy_ids_no_eos"][:8]


@fixtures.needed
def test_model_that_fits_nowhere() -> None:
    folder = fixtures.ROOT / "tiny-26b"
    with pytest.raises(UsageError, match="tiny-26b does not fit into the memory"):
        load_model(folder, "auto", max_memory=half(folder))


SHARDS = 8


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 100 MB of bfloat16 in eight shards, in the original layout with InternLM2."""
    folder = tmp_path_factory.mktemp("sharded")
    size = dataclasses.replace(TARGET, vision=(2, 256, 4, 1024), language=(16, 512, 8, 2048))
    config = original_config(size, 4000)
    config["llm_config"]["num_key_value_heads"] = 4
    save_checkpoint(makers.random_model(config, 0), config, folder)
    makers.split(folder, SHARDS)
    return folder


def measure(folder: Path, small: Path, **options: Any) -> dict[str, int]:
    arguments = [sys.executable, "-c", MEASURE, str(folder), json.dumps(options), str(small)]
    finished = subprocess.run(arguments, text=True, capture_output=True, check=False, timeout=200)
    assert finished.returncode == 0, finished.stderr
    found: dict[str, int] = json.loads(finished.stdout.splitlines()[-1])
    return found


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the kernel tells no anonymous memory")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_peak_of_host_memory(dtype: str, sharded: Path, tmp_path: Path) -> None:
    """Shard by shard: what loading takes beyond what stays on the host is less than 1.3 times the largest shard.

    In the checkpoint's own dtype most of it stays mapped from the file. Without streaming, a second copy of the model
    would show.
    """
    config = original_config(makers.SIZE, 300)
    save_checkpoint(makers.random_model(config, 0), config, tmp_path)
    sizes = [path.stat().st_size for path in sharded.glob("*.safetensors")]
    used = measure(sharded, tmp_path, dtype=dtype)
    kept = sum(sizes) * torch.finfo(getattr(torch, dtype)).bits // 16 if dtype == "float32" else used["kept"]
    assert kept < 1.05 * 2 * sum(sizes)
    assert used["peak"] - kept < 1.3 * max(sizes), (used, max(sizes))
    if dtype == "bfloat16":
        assert used["kept"] < 0.6 * sum(sizes), (used, sum(sizes))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the kernel tells no anonymous memory")
def test_peak_of_host_memory_when_weights_stay_on_the_disk(sharded: Path, tmp_path: Path) -> None:
    """The device map keeps little on the host (the disk stands in for GPUs)."""
    config = original_config(makers.SIZE, 300)
    save_checkpoint(makers.random_model(config, 0), config, tmp_path / "small")
    sizes = [path.stat().st_size for path in sharded.glob("*.safetensors")]
    options = {
        "device": "auto",
        "dtype": "bfloat16",
        "max_memory": {"cpu": 30_000_000},
        "offload": str(tmp_path / "offload"),
    }
    used = measure(sharded, tmp_path / "small", **options)
    assert used["peak"] < 30_000_000 + 1.3 * max(sizes), (used, max(sizes))
