"""An experiment, opened: its specification, the pairs, images and servers that it runs on, and its folder.

A folder holds trials of one spec, pair, data, code and machine (`fingerprint`); anything else is refused, or, if
allowed, noted in run.json under `mixed`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import UsageError
from aiflow_cli.models.pair import PairSpec
from aiflow_cli.trials import fingerprint, store
from aiflow_cli.trials.fingerprint import Fingerprints
from aiflow_cli.trials.schedule import Planned, schedule
from aiflow_cli.trials.served import what_runs
from aiflow_cli.trials.spec import ExperimentSpec
from aiflow_cli.world.record import Trial

if TYPE_CHECKING:
    from aiflow_cli.images.imageset import ImageRecord, ImageSet

SPREAD = "Ray nodes, named in each trial"
"""The machine of an experiment over several."""


@dataclass(frozen=True)
class Experiment:
    """What is to be run, on what, and where to. `ray`: the address of a cluster to run it on, or None; `remedy`: what
    to do where the folder holds trials that were made otherwise.
    """

    spec: ExperimentSpec
    folder: Path
    pairs: Mapping[str, PairSpec]
    images: ImageSet
    fingerprints: Fingerprints
    ray: str | None
    allow_mixed: bool
    remedy: str

    @cached_property
    def records(self) -> list[ImageRecord]:
        """The images."""
        return list(self.images)

    @cached_property
    def planned(self) -> list[Planned]:
        """All trials, warm-ups aside, in their order."""
        return list(schedule(self.records, self.spec))


def open_experiment(
    spec: ExperimentSpec,
    output: Path | None = None,
    *,
    stamped: bool = False,
    restart: bool = False,
    allow_mixed: bool = False,
    ray: str | None = None,
) -> Experiment:
    """Look at pairs, images and a server elsewhere, and choose the folder: `output`, or by default the one that the
    spec's hash names, with `stamped` a new one. Raises UsageError, PrerequisiteError, ImageError, LinkError.
    """
    from aiflow_cli.images.source import open_images

    if ray and spec.server:
        raise UsageError(f"--ray starts a server on every node: leave `server` ({spec.server}) out")
    folder = choose_folder(spec, output, restart)
    pairs, images = spec.pair_specs(), open_images(spec.data, spec.images, spec.seed)
    runs = what_runs(pairs, spec.server, Method.CO_LOCATED in spec.methods)
    prints = {"spec": spec.fingerprint, "data": images.fingerprint} | runs | ({"machine": SPREAD} if ray else {})
    remedy = "--restart begins in a new folder, --allow-mixed goes on in this one and notes it"
    if stamped:  # made at last, so that what is refused leaves none
        folder, remedy = output or store.new_folder(spec.name), "give another --output"
    return Experiment(spec, folder, pairs, images, prints, ray, allow_mixed, remedy)


def choose_folder(spec: ExperimentSpec, output: Path | None, restart: bool) -> Path:
    """`output`, or the last of results/NAME-HASH, NAME-HASH-2, ...; with `restart` the next one. Raises UsageError."""
    if output is not None:
        if restart and _holds_result(output):
            raise UsageError(f"{output} holds a result, which is never removed: restart in another --output")
        return output
    last = base = store.RESULTS / f"{spec.name}-{fingerprint.shown(spec.fingerprint)}"
    numbered = (base.with_name(f"{base.name}-{number}") for number in itertools.count(2))
    while (following := next(numbered)).exists():
        last = following
    return following if restart and _holds_result(last) else last


def _holds_result(folder: Path) -> bool:
    return (folder / "run.json").exists() or store.holds_trials(folder)


def earlier_trials(experiment: Experiment) -> list[Trial]:
    """What the folder holds already. Raises UsageError if it is not of this experiment, StoreError if it is damaged."""
    folder = experiment.folder
    found = store.read_trials(folder) if store.holds_trials(folder) else []
    if not found:
        return []
    document = store.read_run(folder)
    if not {"spec", "pairs", "provenance"} <= document.keys() or not isinstance(document.get("fingerprints"), dict):
        raise UsageError(f"{folder} holds no result of an experiment: give another --output")
    changed = fingerprint.differences(document["fingerprints"], experiment.fingerprints)
    if changed and not experiment.allow_mixed:
        said = f"{folder} holds {len(found)} trials made otherwise ({'; '.join(changed)})"
        raise UsageError(f"{said}: {experiment.remedy}")
    # A trial that is there counts as done only if it is the one that the plan has under its name.
    planned = {one.trial.trial: one.trial for one in experiment.planned}
    for trial in found:
        wanted = planned.get(trial.trial, trial)
        if (wanted.image_id, wanted.setting) != (trial.image_id, trial.setting):
            said = f"{folder} has another trial under the name {trial.trial}: the changed spec orders trials otherwise"
            raise UsageError(f"{said}, so they cannot be mixed; use --restart, or another --output")
    return found


def remaining(experiment: Experiment, found: Sequence[Trial]) -> list[Planned]:
    """The trials still to be made, warm-ups aside."""
    done = {trial.trial for trial in found}
    return [one for one in experiment.planned if one.trial.trial not in done]
