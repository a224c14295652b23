"""A sweep over a Ray cluster of two nodes, one of which is killed midway."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from aiflow_cli.errors import PrerequisiteError, UsageError
from aiflow_cli.trials.experiment import open_experiment
from aiflow_cli.trials.making import Failure
from aiflow_cli.trials.ray_sweep import BlockRunner, Job
from aiflow_cli.trials.run import run_experiment
from aiflow_cli.trials.schedule import Planned, warmups
from aiflow_cli.world.record import Trial
from tests.conftest import TinyPair
from tests.e2e.tools import aiflow, finished_trials, one_line
from tests.trials.sweeps import BLOCK, read_spec, write_spec

SCRIPT = Path(__file__).parent / "ray_cluster.py"
IMAGES = 40
PATIENCE_S = 250.0
"""Two nodes start their models side by side."""
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is an extra: aiflow-cli[ray]")


@dataclass
class Cluster:
    """A cluster in a process of its own."""

    process: subprocess.Popen[str]
    address: str
    nodes: list[str]

    def kill(self, node: int) -> None:
        """Kill the raylet of a node."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{node}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "killed\n"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, SCRIPT], text=True, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        document = json.loads(process.stdout.readline())
        yield Cluster(process, document["address"], document["nodes"])
    finally:
        process.communicate()  # its input ends, and so does the cluster
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "ray" in child.name():
                    child.kill()


def nodes_of(trials: list[dict[str, Any]]) -> dict[str, set[int]]:
    """The blocks that each node has made."""
    found: dict[str, set[int]] = {}
    for trial in trials:
        if not trial["warmup"]:
            found.setdefault(trial["node"], set()).add(trial["block"])
    return found


def wait_for_both(folder: Path, sweep: subprocess.Popen[str]) -> dict[str, set[int]]:
    """Blocks by node once both have made some."""
    deadline = time.monotonic() + PATIENCE_S
    while len(found := nodes_of(finished_trials(folder))) < 2:
        assert time.monotonic() < deadline
        assert sweep.poll() is None
        time.sleep(0.1)
    return found


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_lost_nodes_blocks_run_again_elsewhere(cluster: Cluster, tiny_pair: TinyPair, tmp_path: Path) -> None:
    spec = write_spec(tmp_path, tiny_pair, "scenes", f"images = {IMAGES}")
    folder = tmp_path / "result"
    command = [
        sys.executable,
        "-m",
        "aiflow_cli",
        "sweep",
        str(spec),
        "--ray",
        cluster.address,
        "-o",
        str(folder),
        "--json",
    ]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sweep:
        try:
            before = wait_for_both(folder, sweep)
            cluster.kill(0)
            output, errors = sweep.communicate(timeout=PATIENCE_S)
        finally:
            sweep.kill()
    assert sweep.returncode == 0, errors
    document = json.loads(output)
    trials = [t for t in finished_trials(folder) if not t["warmup"]]
    assert len(before) == 2
    assert len(trials) == len({t["trial"] for t in trials}) == IMAGES * BLOCK
    assert len({t["trial"] for t in finished_trials(folder)}) == len(finished_trials(folder))
    blocks = nodes_of(trials)
    assert set(blocks) == set(before)
    assert set.union(*blocks.values()) == set(range(IMAGES))
    assert not set.intersection(*blocks.values())  # a block is made on one node, whole
    lost = next(node for node in blocks if node.endswith(cluster.nodes[0][:6]))
    assert len(blocks[lost]) < IMAGES / 2
    assert all(t["identical"] for t in trials if t["setting"]["method"] != "on-device")
    assert document["sessions"][0]["ray"] == cluster.address
    again = aiflow("sweep", spec, "--ray", cluster.address, "-o", folder)
    assert again.returncode == 0
    here = aiflow("sweep", spec, "-o", folder)
    assert "machine: Ray nodes" in one_line(here)


@needs_ray
@pytest.mark.slow
def test_nodes_with_too_few_cores_make_no_trials(
    cluster: Cluster, tiny_pair: TinyPair, photographs: Path, tmp_path: Path
) -> None:
    spec = write_spec(tmp_path, tiny_pair, photographs, "threads = 9")
    finished = aiflow("sweep", spec, "--ray", cluster.address, "-o", tmp_path / "result")
    assert finished.returncode == 1
    assert "no node of the Ray cluster can run trials: " in one_line(finished)
    assert "less than 18 cores" in one_line(finished)


@needs_ray
def test_an_absent_cluster_is_named_at_once(tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    spec = read_spec(tmp_path, tiny_pair, photographs)
    with pytest.raises(PrerequisiteError, match=r"no Ray cluster at 127\.0\.0\.1:1 .*`ray start --head`"):
        run_experiment(open_experiment(spec, tmp_path / "result", ray="127.0.0.1:1"), lambda step: None)


def test_a_node_makes_whole_blocks_under_its_own_name(tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    """What a node does, without a cluster; the job crosses to it in one piece."""
    opened = open_experiment(
        read_spec(tmp_path, tiny_pair, photographs, "link.delay=0", "gammas=2", "images=2"), tmp_path
    )
    grid = opened.spec.grid()
    warm = partial(warmups, opened.records[0], grid, opened.spec, 0, 0)
    job = pickle.loads(pickle.dumps(Job(opened.pairs, grid, opened.spec, warm, opened.fingerprints)))
    runner = BlockRunner(job, "abc")
    try:
        block = [planned for planned in opened.planned if planned.trial.block == 1]
        torn = Planned(block[0].trial, b"no image")
        made = runner.make([torn, *block[1:]])
    finally:
        runner.maker.close()
    first, made = made[: len(grid)], made[len(grid) :]
    assert [one.trial.endswith("-abc") for one in first] == [True] * len(grid)
    assert [one.trial for one in made] == [planned.trial.trial for planned in block]
    assert [isinstance(one, Failure) for one in made] == [True] + [False] * (len(block) - 1)
    assert {one.node.rpartition("-")[2] for one in [*first, *made] if isinstance(one, Trial)} == {"abc"}
    with pytest.raises(UsageError, match="it differs from the machine that asks: code: "):
        BlockRunner(replace(job, expected={"code": "0" * 64}), "abc").make(block)


@needs_ray
@pytest.mark.slow
def test_workers_import_nothing_from_the_folder_of_the_command(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself puts that folder first on their search path."""
    from aiflow_cli.trials.ray_sweep import _cluster

    (tmp_path / "shadow.py").touch()
    monkeypatch.chdir(tmp_path)
    with _cluster(cluster.address) as ray:
        found = ray.remote(importlib.util.find_spec).remote("shadow")
        assert ray.get(found) is None
    assert Path.cwd() == tmp_path
