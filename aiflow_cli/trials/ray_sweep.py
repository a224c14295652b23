"""Blocks of an experiment, shared out to the nodes of a Ray cluster.

A node holds one device-server pair at a time (an actor that reserves its cores) and makes whole blocks, so that what is
compared was measured on one node. A block counts when all its trials have come back; where a node is lost before, it is
made again elsewhere, and whatever the lost node may still do goes nowhere. Nodes that join take part.

Each node must have this program, the same sources and packages, and the checkpoints at the same places; it says so if
not, and gets no block. Images travel with the blocks.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import platform
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from aiflow_cli.errors import AiflowError, LinkError, PrerequisiteError, UsageError
from aiflow_cli.models.pair import PairSpec
from aiflow_cli.trials import fingerprint
from aiflow_cli.trials.making import Failure, Maker
from aiflow_cli.trials.schedule import Planned
from aiflow_cli.world.conditions import Conditions
from aiflow_cli.world.live import LiveWorld
from aiflow_cli.world.record import Setting, Trial

POLL_S = 2.0
"""How often new nodes are looked for while blocks are under way."""
LOSSES = 3
"""So many blocks lost on a node, and it gets no more."""
END_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0

Block = list[Planned]
Made = list[Trial | Failure]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What every node needs to know: a world to hold, warm-ups, and the fingerprints to have (none: not checked)."""

    pairs: Mapping[str, PairSpec]
    settings: Sequence[Setting]
    conditions: Conditions
    warm: Callable[[int], list[Planned]]
    expected: Mapping[str, str]

    @property
    def cores(self) -> int:
        """Cores of a device and a server."""
        return 2 * self.conditions.threads

    @property
    def on_gpu(self) -> bool:
        """Whether a node must have a GPU."""
        return self.conditions.on_gpu


class BlockRunner:
    """On a node: a device-server pair that makes blocks. Its methods run one after another."""

    def __init__(self, job: Job, node: str) -> None:
        """Nothing is started yet. `node`: the name in the records."""
        self._job, self._node = job, f"{platform.node()}-{node}"
        self._maker = Maker(partial(LiveWorld, job.pairs, job.settings, job.conditions), self._warm)

    def _warm(self, times: int) -> list[Planned]:
        """Warm-ups of names that no other node gives."""
        warm = [self._here(planned) for planned in self._job.warm(times)]
        return [Planned(trial.replace(trial=f"{trial.trial}-{self._node}"), image) for trial, image in warm]

    def _here(self, planned: Planned) -> Planned:
        return Planned(planned.trial.replace(node=self._node), planned.image)

    def start(self) -> Made:
        """Check this node, start its processes, make the warm-ups. Raises what starting can raise."""
        here = fingerprint.of_trials(self._job.pairs)
        del here["machine"]
        expected = {name: value for name, value in self._job.expected.items() if name in here}
        if expected and (differs := fingerprint.differences(expected, here)):
            raise UsageError(f"it differs from the machine that asks: {'; '.join(differs)}")
        return list(self._maker.enter())

    def make(self, block: Block) -> Made:
        """Make the trials of a block. Raises what starting can raise, and what several in a row have raised."""
        return [made for planned in block for made in self._maker.make(self._here(planned))]

    def stop(self) -> None:
        """End the processes."""
        self._maker.leave()


@dataclass
class _Node:
    """A node that takes part: its actor, what it is doing (None: nothing), and the block that this is."""

    actor: Any
    task: Any = None
    block: Block | None = None


@dataclass
class _Pool:
    """The nodes of a cluster and the blocks that are not made yet."""

    ray: Any
    job: Job
    blocks: deque[Block]
    nodes: dict[str, _Node] = field(default_factory=dict)
    losses: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def recruit(self) -> None:
        """Start an actor on every node that has none."""
        for found in self.ray.nodes():
            node, has = found["NodeID"], found["Resources"]
            if not found["Alive"] or node in self.nodes or node in self.refused:
                continue
            gpus = has.get("GPU", 0) if self.job.on_gpu else 0
            if has.get("CPU", 0) < self.job.cores or (self.job.on_gpu and not gpus):
                needs = f"{self.job.cores} cores{' and a GPU' if self.job.on_gpu else ''}"
                self.refused[node] = f"{found['NodeManagerHostname']} has less than {needs}"
                continue  # a head that only manages is no news
            self.nodes[node] = self._start(node, gpus)

    def _start(self, node: str, gpus: float) -> _Node:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        options = {"num_cpus": self.job.cores, "num_gpus": gpus, "max_restarts": 0, "scheduling_strategy": here}
        actor = self.ray.remote(BlockRunner).options(**options).remote(self.job, node[:6])
        return _Node(actor, actor.start.remote())

    def assign(self) -> None:
        """Give each idle node a block."""
        for node in self.nodes.values():
            if node.task is None and self.blocks:
                node.block = self.blocks.popleft()
                node.task = node.actor.make.remote(node.block)

    def finished(self) -> Iterator[Made]:
        """Wait a little; what nodes have finished since. A block that is lost goes back to the front."""
        tasks = {node.task: name for name, node in self.nodes.items() if node.task is not None}
        if not tasks:
            raise LinkError(f"no node of the Ray cluster can run trials: {self._reasons()}")
        ready, _ = self.ray.wait(list(tasks), num_returns=1, timeout=POLL_S)
        for task in ready:
            if made := self._take(tasks[task]):
                yield made

    def _take(self, name: str) -> Made:
        node = self.nodes[name]
        try:
            made: Made = self.ray.get(node.task)
        except AiflowError as error:  # Ray gives an error of the task both its own class and the original one
            self._lose(name, str(getattr(error, "cause", None) or error), for_good=True)
            return []
        except self.ray.exceptions.RayTaskError:
            raise  # a bug
        except self.ray.exceptions.RayError:
            self._lose(name, "its process or the node was lost")
            return []
        node.task = node.block = None
        return made

    def _lose(self, name: str, reason: str, for_good: bool = False) -> None:
        node = self.nodes.pop(name)
        if node.block is not None:
            self.blocks.appendleft(node.block)
        with contextlib.suppress(Exception):  # the actor may be gone, and so may the way to it
            self.ray.kill(node.actor)
        self.losses[name] = self.losses.get(name, 0) + 1
        if for_good or self.losses[name] >= LOSSES:
            self.refused[name] = f"node {name[:6]}: {reason}"
            _log.warning("%s; it gets no more blocks", self.refused[name])

    def _reasons(self) -> str:
        return "; ".join(self.refused.values()) or "there is none"

    @property
    def busy(self) -> bool:
        """Whether blocks are to be made or under way."""
        return bool(self.blocks) or any(node.block is not None for node in self.nodes.values())

    def end(self) -> None:
        """End the processes on all nodes."""
        stopping = [node.actor.stop.remote() for node in self.nodes.values() if node.task is None]
        if stopping:
            self.ray.wait(stopping, num_returns=len(stopping), timeout=END_TIMEOUT_S)
        for node in self.nodes.values():
            self.ray.kill(node.actor)


def run_blocks(address: str, job: Job, todo: Sequence[Planned]) -> Iterator[Made]:
    """Make `todo` block by block on the cluster at `address`; gives each node's warm-ups, and each block when it is
    whole.

    Raises PrerequisiteError without Ray or a cluster, LinkError with the reasons when no node is left.
    """
    blocks = [list(group) for _, group in itertools.groupby(todo, key=lambda planned: planned.trial.block)]
    with _cluster(address) as ray:
        pool = _Pool(ray, _with_absolute_folders(job), deque(blocks))
        try:
            while pool.busy:
                pool.recruit()
                pool.assign()
                yield from pool.finished()
        finally:
            pool.end()


def _with_absolute_folders(job: Job) -> Job:
    """A node has another current folder."""

    def absolute(place: str) -> str:
        return place if place.startswith("hub:") else str(Path(place).absolute())

    pairs = {
        name: replace(pair, draft=absolute(pair.draft), target=absolute(pair.target))
        for name, pair in job.pairs.items()
    }
    return replace(job, pairs=pairs)


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """The module `ray`, connected. Its handler of SIGTERM, which would end this process at once, is taken back."""
    try:
        import ray
    except ImportError:
        raise PrerequisiteError("Ray is not installed: run `pip install 'aiflow-cli[ray]'`") from None
    _check_reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with contextlib.redirect_stdout(sys.stderr):  # Ray tells of lost nodes on standard output, where our data go
        _connect(ray, address)
        try:
            yield ray
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.chdir("/"):  # Ray has its workers import from the folder in which this process is now
            ray.init(address=address, log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, str(error).partition("\n")[0].partition(". ")[0]) from None
    signal.signal(signal.SIGTERM, handler)


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        try:
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
        except OSError as error:
            raise _no_cluster(address, error.strerror or str(error)) from None


def _no_cluster(address: str, reason: str) -> PrerequisiteError:
    remedy = "start one with `ray start --head`, give its address, or leave --ray out"
    return PrerequisiteError(f"no Ray cluster at {address} ({reason}): {remedy}")
