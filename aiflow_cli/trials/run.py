"""Running an experiment: all its trials, in one folder, over as many calls as it takes.

A call makes the trials that the folder lacks, by name, each on the disk before the next starts; so whatever ends it,
the same command goes on where it stopped. An experiment has one or more sessions: for each the processes are started
anew and warmed up. When no trial is lacking but those that failed, outputs are compared, and tables written.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from aiflow_cli.trials import fingerprint, identity, provenance, store
from aiflow_cli.trials.experiment import Experiment, earlier_trials, remaining
from aiflow_cli.trials.making import Failure, Made, Maker
from aiflow_cli.trials.schedule import Planned, warmups
from aiflow_cli.trials.served import folder_here, pair_document
from aiflow_cli.trials.store import TrialWriter
from aiflow_cli.world.live import LiveWorld
from aiflow_cli.world.record import SCHEMA_VERSION, Link, Setting, Trial, now

Document = dict[str, Any]
"""run.json."""


class Step(NamedTuple):
    """How far a run is: trials done of all (warm-ups included), and the last one made; None while processes start."""

    done: int
    total: int
    trial: Trial | None


Show = Callable[[Step], None]


@dataclass(frozen=True)
class RunResult:
    """A run that came to its end: where it is, its document (run.json), and its trials, compared."""

    folder: Path
    document: Document
    trials: list[Trial]

    @property
    def measured(self) -> list[Trial]:
        """The trials without the warm-ups."""
        return [trial for trial in self.trials if not trial.warmup]

    @property
    def mismatches(self) -> list[Trial]:
        """The trials whose output is not server-only's."""
        return [trial for trial in self.trials if trial.mismatch]

    @property
    def defects(self) -> list[Trial]:
        """The mismatches that rounding does not explain: it cannot, or the target is not here to tell."""
        return [trial for trial in self.trials if trial.mismatch and trial.mismatch.kind != "tie"]

    @property
    def failures(self) -> list[Failure]:
        """The trials that could not be made."""
        return failures(self.document)


def failures(document: Document) -> list[Failure]:
    """The trials that run.json tells to have failed."""
    return [Failure(**failed) for failed in document["failed"]]


def run_experiment(experiment: Experiment, show: Show) -> RunResult:
    """Make what is lacking, then compare and write tables. Finished trials stay, whatever is raised: what starting
    raises, or several trials in a row.

    `show` is first called when nothing speaks against beginning: what is raised before is a refusal.
    """
    folder = store.make_folder(experiment.folder)
    with store.owned(folder):
        found = earlier_trials(experiment)
        todo = remaining(experiment, found)
        if not todo and (document := store.read_run(folder))["provenance"]["finished_at"]:
            return RunResult(folder, document, found)
        document = _begin(experiment, found)
        with TrialWriter(folder, found) as writer:
            _Run(experiment, document, found, writer, show).make(todo)
        return _finish(experiment, document, found)


class _Run:
    """One call: what it makes goes to the disk, then to `found`; what fails and what servers run goes into
    `document`.
    """

    def __init__(
        self, experiment: Experiment, document: Document, found: list[Trial], writer: TrialWriter, show: Show
    ) -> None:
        self._experiment, self._document, self._found = experiment, document, found
        self._writer, self._show = writer, show
        self._done = self._warm = self._warm_expected = 0

    def make(self, todo: Sequence[Planned]) -> None:
        """Session by session."""
        sessions = [list(group) for _, group in itertools.groupby(todo, key=lambda one: one.trial.session)]
        self._done = len(self._experiment.planned) - len(todo)
        if not self._experiment.ray:  # else once a node, however many there are
            self._warm_expected = sum(len(_settings(s)) for s in sessions) * self._experiment.spec.warmups
        self._tell(None)
        for session in sessions:
            with closing(self._batches(session)) as batches:
                for batch in batches:
                    self._keep(batch)

    def _batches(self, todo: list[Planned]) -> Generator[Made, None, None]:
        """Trials of a session as they are made: one at a time here, a block at a time over Ray."""
        experiment, spec, session = self._experiment, self._experiment.spec, todo[0].trial.session
        settings = _settings(todo)
        first = 1 + max((t.block for t in self._found if t.warmup and t.session == session), default=-1)
        warm = partial(warmups, experiment.records[0], settings, spec.warmups, first, session, spec.sessions)
        if experiment.ray:
            from aiflow_cli.trials.ray_sweep import Job, run_blocks

            expected = {} if experiment.allow_mixed else experiment.fingerprints
            yield from run_blocks(experiment.ray, Job(experiment.pairs, settings, spec, warm, expected), todo)
            return
        with Maker(partial(LiveWorld, experiment.pairs, settings, spec), warm, self._entered) as maker:
            for planned in todo:
                for made in maker.make(planned):
                    yield [made]

    def _entered(self, world: LiveWorld) -> None:
        for entry in self._document["pairs"]:
            if served := world.served.get(entry["name"]):
                entry.update(pair_document(self._experiment.pairs[entry["name"]], served))
        store.write_run(self._experiment.folder, self._document)

    def _keep(self, batch: Made) -> None:
        """On the disk; a failure stays in `document` until the trial has succeeded."""
        trials = [one for one in batch if isinstance(one, Trial)]
        self._writer.append(*trials)
        self._found += trials
        warm = sum(trial.warmup for trial in trials)
        self._warm += warm
        self._done += len(batch) - warm
        tried = {one.trial for one in batch}
        failed = [entry for entry in self._document["failed"] if entry["trial"] not in tried]
        failed += [asdict(one) for one in batch if isinstance(one, Failure)]
        if failed != self._document["failed"]:
            self._document["failed"] = failed
            store.write_run(self._experiment.folder, self._document)
        self._tell(trials[-1] if trials else None)

    def _tell(self, last: Trial | None) -> None:
        total = len(self._experiment.planned) + max(self._warm_expected, self._warm)
        self._show(Step(self._done + self._warm, total, last))


def _settings(todo: Sequence[Planned]) -> list[Setting]:
    return list(dict.fromkeys(planned.trial.setting for planned in todo))


def _begin(experiment: Experiment, found: Sequence[Trial]) -> Document:
    """run.json with this call in it, written."""
    document = new_document(experiment)
    call = {key: document["provenance"][key] for key in ("started_at", "command", "git", "host", "load_at_start")}
    call |= {"ray": experiment.ray, "trials_before": len(found)}
    before = store.read_run(experiment.folder) if (experiment.folder / "run.json").exists() else {}
    if "sessions" in before:
        document["sessions"], document["mixed"] = before["sessions"], before["mixed"]
    if found:  # else what is there is of a run that failed as it started
        known = {pair["name"]: pair for pair in before["pairs"]}
        document["provenance"] = before["provenance"] | {"finished_at": None}
        document["pairs"] = [pair | known.get(pair["name"], {}) for pair in document["pairs"]]
        document["failed"] = before.get("failed", [])
        if changed := fingerprint.differences(before["fingerprints"], experiment.fingerprints):
            mixed = {"at": call["started_at"], "trials_before": len(found), "changed": changed}
            document["mixed"] = [*document["mixed"], mixed]
    document["sessions"] = [*document["sessions"], call]
    store.write_run(experiment.folder, document)
    return document


def new_document(experiment: Experiment) -> Document:
    """run.json of an experiment before its first trial."""
    images = experiment.images
    return {
        "schema_version": SCHEMA_VERSION,
        "name": experiment.spec.name,
        "spec": experiment.spec.model_dump(mode="json"),
        "provenance": provenance.gather(),
        "pairs": [pair_document(pair) for pair in experiment.pairs.values()],
        "links": [msgspec.to_builtins(Link.of(link)) for link in experiment.spec.link.links()],
        "data": {"name": images.name, "fingerprint": images.fingerprint, "images": len(images), "note": images.note},
        "trials": len(experiment.planned),
        "fingerprints": experiment.fingerprints,
        **{part: [] for part in ("sessions", "mixed", "failed")},
    }


def _finish(experiment: Experiment, document: Document, found: list[Trial]) -> RunResult:
    """Compare the outputs and write tables. Done anew where a call ended in the middle of it."""
    if any(trial.identical is None and identity.comparable(trial) for trial in found):
        found = _compared(experiment, document, found)
        store.rewrite_trials(experiment.folder, found)
    store.write_tables(experiment.folder, found)
    document["provenance"]["finished_at"] = now()
    store.write_run(experiment.folder, document)
    return RunResult(experiment.folder, document, found)


def _compared(experiment: Experiment, document: Document, trials: Sequence[Trial]) -> list[Trial]:
    """`trials` with `identical` filled in, pair by pair, by what its server computed in."""
    spec, images = experiment.spec, {image.image_id: image.data for image in experiment.records}
    device = spec.device if spec.server else spec.target_device
    compared: dict[str, Trial] = {}
    for entry in document["pairs"]:
        pair, server = experiment.pairs[entry["name"]], entry.get("server") or {}
        dtype = server.get("dtype") or spec.dtype_of(pair, device)
        quantize, target = server.get("quantize", spec.quantize), folder_here(pair, "target")
        probe = identity.reference_probe(target, device, dtype, spec.question(pair), images, quantize)
        mine = [trial for trial in trials if trial.setting.pair == pair.name]
        compared |= {trial.trial: trial for trial in identity.compare(mine, dtype, probe)}
    return [compared.get(trial.trial, trial) for trial in trials]
