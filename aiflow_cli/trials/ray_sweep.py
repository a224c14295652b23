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
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiflow_cli.errors import AiflowError, LinkError, PrerequisiteError, UsageError
from aiflow_cli.models.pair import PairSpec
from aiflow_cli.trials import fingerprint
from aiflow_cli.trials.making import Made, Maker
from aiflow_cli.trials.schedule import Planned
from aiflow_cli.world.conditions import Conditions
from aiflow_cli.world.live import LiveWorld
from aiflow_cli.world.record import Setting

POLL_S = 2.0
"""How often new nodes are looked for while blocks are under way."""
LOSSES = 3
"""So many blocks lost on a node, and it gets no more."""
CONNECT_TIMEOUT_S = 5.0

Block = list[Planned]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What every node needs to know: a world to hold, warm-ups, and the fingerprints to have (none: not checked)."""

    pairs: Mapping[str, PairSpec]
    settings: Sequence[Setting]
    conditions: Conditions
    warm: Callable[[int], list[Planned]]
    expected: Mapping[str, str]


class BlockRunner:
    """On a node: a device-server pair that makes blocks, one after another."""

    def __init__(self, job: Job, node: str) -> None:
        """Nothing is started yet. `node`: the name in the records."""
        self._job, self._node = job, f"{platform.node()}-{node}"
        self.maker = Maker(self._world, self._warm)

    def _world(self) -> LiveWorld:
        """One of the sources, packages and checkpoints that the machine has which asks. Raises UsageError."""
        here = fingerprint.of_trials(self._job.pairs)
        del here["machine"]
        expected = {name: value for name, value in self._job.expected.items() if name in here}
        if expected and (differs := fingerprint.differences(expected, here)):
            raise UsageError(f"it differs from the machine that asks: {'; '.join(differs)}")
        return LiveWorld(self._job.pairs, self._job.settings, self._job.conditions)

    def _warm(self, times: int) -> list[Planned]:
        """Warm-ups of names that no other node gives."""
        return [self._here(planned, f"-{self._node}") for planned in self._job.warm(times)]

    def _here(self, planned: Planned, ending: str = "") -> Planned:
        trial, image = planned
        return Planned(trial.replace(node=self._node, trial=trial.trial + ending), image)

    def make(self, block: Block) -> Made:
        """The trials of a block, warm-ups before the first. Raises what starting and several trials in a row raise."""
        return [made for planned in block for made in self.maker.make(self._here(planned))]


@dataclass
class _Pool:
    """The nodes of a cluster by their ids, and the blocks that are not made yet."""

    ray: Any
    job: Job
    blocks: deque[Block]
    actors: dict[str, Any] = field(default_factory=dict)
    tasks: dict[Any, tuple[str, Block]] = field(default_factory=dict)
    """Which node is making which block."""
    losses: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)

    def assign(self) -> None:
        """Give each idle node a block."""
        at_work = {name for name, _ in self.tasks.values()}
        for found in self.ray.nodes():
            name = found["NodeID"]
            if self.blocks and found["Alive"] and name not in self.refused and name not in at_work:
                if name not in self.actors:
                    self._start(name, found["NodeManagerHostname"], found["Resources"])
                if name in self.actors:
                    block = self.blocks.popleft()
                    self.tasks[self.actors[name].make.remote(block)] = name, block

    def _start(self, name: str, host: str, has: Mapping[str, float]) -> None:
        """An actor on a node, if there is room for a device and a server."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        cores, on_gpu = 2 * self.job.conditions.threads, self.job.conditions.on_gpu
        gpus = has.get("GPU", 0) if on_gpu else 0
        if has.get("CPU", 0) < cores or (on_gpu and not gpus):  # a head that only manages is no news
            self.refused[name] = f"{host} has less than {cores} cores{' and a GPU' if on_gpu else ''}"
            return
        here = NodeAffinitySchedulingStrategy(node_id=name, soft=False)
        options = {"num_cpus": cores, "num_gpus": gpus, "max_restarts": 0, "scheduling_strategy": here}
        self.actors[name] = self.ray.remote(BlockRunner).options(**options).remote(self.job, name[:6])

    def finished(self) -> Iterator[Made]:
        """Wait a little; what nodes have finished since."""
        if not self.tasks:
            reasons = "; ".join(self.refused.values()) or "there is none"
            raise LinkError(f"no node of the Ray cluster can run trials: {reasons}")
        ready, _ = self.ray.wait(list(self.tasks), num_returns=1, timeout=POLL_S)
        for task in ready:
            name, block = self.tasks.pop(task)
            try:
                yield self.ray.get(task)
            except AiflowError as error:  # Ray gives an error of the task both its own class and the original one
                self._lose(name, block, str(getattr(error, "cause", None) or error), for_good=True)
            except self.ray.exceptions.RayTaskError:
                raise  # a bug
            except self.ray.exceptions.RayError:
                self._lose(name, block, "its process or the node was lost")

    def _lose(self, name: str, block: Block, reason: str, for_good: bool = False) -> None:
        self.blocks.appendleft(block)
        with contextlib.suppress(Exception):  # the actor may be gone, and so may the way to it
            self.ray.kill(self.actors.pop(name))
        self.losses[name] += 1
        if for_good or self.losses[name] >= LOSSES:
            self.refused[name] = f"node {name[:6]}: {reason}"
            _log.warning("%s; it gets no more blocks", self.refused[name])


def run_blocks(address: str, job: Job, todo: Sequence[Planned]) -> Iterator[Made]:
    """Make `todo` block by block on the cluster at `address`; gives whole blocks, a node's first with warm-ups.
    Raises PrerequisiteError without Ray or a cluster, LinkError with the reasons when no node is left.
    """
    blocks = [list(group) for _, group in itertools.groupby(todo, key=lambda planned: planned.trial.block)]
    pairs = {
        name: replace(pair, draft=_absolute(pair.draft), target=_absolute(pair.target))
        for name, pair in job.pairs.items()
    }
    with _cluster(address) as ray:
        pool = _Pool(ray, replace(job, pairs=pairs), deque(blocks))
        try:
            while pool.blocks or pool.tasks:
                pool.assign()
                yield from pool.finished()
        finally:
            for actor in pool.actors.values():
                ray.kill(actor)  # what it has started ends with it


def _absolute(place: str) -> str:
    """A node has another current folder."""
    return place if place.startswith("hub:") else str(Path(place).absolute())


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """The module `ray`, connected. Its handler of SIGTERM, which would end this process at once, is taken back."""
    try:
        import ray
    except ImportError:
        raise PrerequisiteError("Ray is not installed: run `pip install 'aiflow-cli[ray]'`") from None
    handler = signal.getsignal(signal.SIGTERM)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with contextlib.redirect_stdout(sys.stderr):  # Ray tells of lost nodes on standard output, where our data go
        try:
            host, colon, port = address.removeprefix("ray://").rpartition(":")
            if colon and port.isdigit():  # Ray itself would try for minutes
                socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
            with contextlib.chdir("/"):  # Ray has its workers import from the folder in which this process is now
                ray.init(address=address, log_to_driver=False, logging_level="error")
        except (OSError, ValueError, RuntimeError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0].partition(". ")[0]
            remedy = "start one with `ray start --head`, give its address, or leave --ray out"
            raise PrerequisiteError(f"no Ray cluster at {address} ({reason}): {remedy}") from None
        signal.signal(signal.SIGTERM, handler)
        try:
            yield ray
        finally:
            ray.shutdown()
