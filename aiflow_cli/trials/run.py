"""Running an experiment: all its trials, in one folder, over as many calls as it takes.

A call makes the trials that the folder lacks, by name, each on the disk before the next starts; so whatever ends it,
the same command goes on where it stopped. An experiment has one or more sessions: for each the processes are started
anew and warmed up. When no trial is lacking but those that failed, outputs are compared, and tables written.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from aiflow_cli.trials import fingerprint, identity, store
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
    """How far a run is: trials done of all, warm-ups aside, and the last one made; None while processes start."""

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
    raises, or several trials in a row. What is raised before `show` is first called is a refusal.
    """
    folder, total = store.make_folder(experiment.folder), len(experiment.planned)
    with store.owned(folder):
        found = earlier_trials(experiment)
        todo = remaining(experiment, found)
        if not todo and (document := store.read_run(folder))["provenance"]["finished_at"]:
            return RunResult(folder, document, found)
        document, done = _begin(experiment, found), total - len(todo)
        with TrialWriter(folder, found) as writer, closing(_make(experiment, document, found, todo)) as batches:
            show(Step(done, total, None))
            for batch in batches:
                trials = [one for one in batch if isinstance(one, Trial)]
                writer.append(*trials)
                found += trials
                _note_failures(folder, document, batch)
                done += len(batch) - sum(trial.warmup for trial in trials)
                show(Step(done, total, trials[-1] if trials else None))
        return _finish(experiment, document, found)


def _make(
    experiment: Experiment, document: Document, found: Sequence[Trial], todo: Sequence[Planned]
) -> Generator[Made, None, None]:
    """Trials as they are made, session by session: one at a time here, a block at a time over Ray."""
    pairs, spec = experiment.pairs, experiment.spec
    for session, group in itertools.groupby(todo, key=lambda one: one.trial.session):
        lacking = list(group)
        settings = list(dict.fromkeys(planned.trial.setting for planned in lacking))
        first = 1 + max((t.block for t in found if t.warmup and t.session == session), default=-1)
        warm = partial(warmups, experiment.records[0], settings, spec, session, first)
        if experiment.ray:
            from aiflow_cli.trials.ray_sweep import Job, run_blocks

            expected = {} if experiment.allow_mixed else experiment.fingerprints
            yield from run_blocks(experiment.ray, Job(pairs, settings, spec, warm, expected), lacking)
        else:
            with Maker(partial(_world, experiment, document, settings), warm) as maker:
                for planned in lacking:
                    for made in maker.make(planned):
                        yield [made]


@contextmanager
def _world(experiment: Experiment, document: Document, settings: Sequence[Setting]) -> Iterator[LiveWorld]:
    """A world; what its servers say that they run goes into run.json."""
    with LiveWorld(experiment.pairs, settings, experiment.spec) as world:
        for entry in document["pairs"]:
            if served := world.served.get(entry["name"]):
                entry.update(pair_document(experiment.pairs[entry["name"]], served))
        store.write_run(experiment.folder, document)
        yield world


def _note_failures(folder: Path, document: Document, batch: Made) -> None:
    """In run.json at once; a failure stays there until the trial has succeeded."""
    tried = {one.trial for one in batch}
    failed = [entry for entry in document["failed"] if entry["trial"] not in tried]
    failed += [asdict(one) for one in batch if isinstance(one, Failure)]
    if failed != document["failed"]:
        document["failed"] = failed
        store.write_run(folder, document)


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
        "provenance": fingerprint.provenance(),
        "pairs": [pair_document(pair) for pair in experiment.pairs.values()],
        "links": [msgspec.to_builtins(Link.of(link)) for link in experiment.spec.link.links()],
        "data": {"name": images.name, "fingerprint": images.fingerprint, "images": len(images), "note": images.note},
        "trials": len(experiment.planned),
        "fingerprints": experiment.fingerprints,
        "sessions": [],
        "mixed": [],
        "failed": [],
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
    from aiflow_cli.models.vlm import VisionLanguageModel

    spec, images = experiment.spec, {image.image_id: image.data for image in experiment.records}
    device = spec.device if spec.server else spec.target_device
    compared: dict[str, Trial] = {}
    for entry in document["pairs"]:
        pair, server = experiment.pairs[entry["name"]], entry.get("server") or {}
        dtype = server.get("dtype") or spec.dtype_of(pair, device)
        quantize, target = server.get("quantize", spec.quantize), folder_here(pair, "target")
        load = partial(VisionLanguageModel.from_folder, target, device, dtype, quantize) if target else None
        probe = identity.reference_probe(load, spec.question(pair), images)
        mine = [trial for trial in trials if trial.setting.pair == pair.name]
        compared |= {trial.trial: trial for trial in identity.compare(mine, dtype, probe)}
    return [compared.get(trial.trial, trial) for trial in trials]
