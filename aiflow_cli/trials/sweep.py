"""A sweep: all trials of an experiment, in one folder, over as many sessions as it takes.

A session is one call of the command. It makes the trials that the folder lacks, by name, each on the disk before the next
starts; so whatever ends it, the same command goes on where it stopped. Warm-ups are made anew in each session.
When none is lacking, outputs are judged, and tables exported.

A folder holds trials of one spec, pair, data, code and machine (`fingerprint`); anything else is refused, or, if allowed,
noted in run.json under `mixed`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import StoreError, UsageError
from aiflow_cli.models.pair import PairSpec
from aiflow_cli.trials import fingerprint, identity, provenance, store
from aiflow_cli.trials.export import export
from aiflow_cli.trials.fingerprint import Fingerprints
from aiflow_cli.trials.live import LiveWorld, link_document
from aiflow_cli.trials.run import PlannedTrial, RunResult, Show, Step, pair_document, warmups
from aiflow_cli.trials.schedule import Slot, schedule
from aiflow_cli.trials.served import folder_here, recorded, what_runs
from aiflow_cli.trials.settings import Setting
from aiflow_cli.trials.spec import ExperimentSpec
from aiflow_cli.trials.store import Record, TrialWriter

if TYPE_CHECKING:
    from aiflow_cli.images.imageset import ImageRecord, ImageSet

Document = dict[str, Any]
"""run.json."""
SPREAD = "Ray nodes, named in each trial"
"""The machine of a sweep over several."""


@dataclass(frozen=True)
class Sweep:
    """An experiment with what it runs on. Nothing is written yet. `ray`: the address of a cluster to run it on, or None."""

    spec: ExperimentSpec
    folder: Path
    pairs: Mapping[str, PairSpec]
    images: ImageSet
    fingerprints: Fingerprints
    ray: str | None = None
    allow_mixed: bool = False

    @cached_property
    def records(self) -> list[ImageRecord]:
        """The images, by the index that a slot has."""
        return list(self.images)

    @cached_property
    def slots(self) -> list[Slot]:
        """All trials, warm-ups aside, in their order."""
        return list(schedule(len(self.images), self.spec.block(), self.spec.repeats, self.spec.seed))


def open_sweep(
    spec: ExperimentSpec,
    output: Path | None = None,
    *,
    restart: bool = False,
    allow_mixed: bool = False,
    ray: str | None = None,
) -> Sweep:
    """Look at pairs, images and a server elsewhere, and choose the folder. Raises UsageError, PrerequisiteError, ImageError, LinkError."""
    from aiflow_cli.images.source import open_images

    if ray and spec.server:
        raise UsageError(f"--ray starts a server on every node: leave `server` ({spec.server}) out")
    folder = choose_folder(spec, output, restart)
    pairs = spec.pair_specs()
    images = open_images(spec.data, spec.images, spec.seed)
    runs = what_runs(pairs, spec.server, Method.CO_LOCATED in spec.methods)
    prints = {"spec": spec.fingerprint, "data": images.fingerprint} | runs | ({"machine": SPREAD} if ray else {})
    return Sweep(spec, folder, pairs, images, prints, ray, allow_mixed)


def choose_folder(spec: ExperimentSpec, output: Path | None, restart: bool) -> Path:
    """`output`, or the last of results/NAME-HASH, NAME-HASH-2, ...; with `restart` the next one. Raises UsageError."""
    if output is not None:
        if restart and _holds_result(output):
            raise UsageError(f"{output} holds a result, which is never removed: restart in another --output")
        return output
    base = store.RESULTS / spec.folder_name
    last = 1
    while _numbered(base, last + 1).exists():
        last += 1
    taken = _holds_result(_numbered(base, last))
    return _numbered(base, last + 1 if restart and taken else last)


def _numbered(base: Path, number: int) -> Path:
    return base if number == 1 else base.with_name(f"{base.name}-{number}")


def _holds_result(folder: Path) -> bool:
    return (folder / "run.json").exists() or (folder / "trials.jsonl").exists()


def earlier_trials(sweep: Sweep) -> list[Record]:
    """What the folder holds already. Raises UsageError if it is not of this experiment, StoreError if it cannot be read."""
    found = store.read_trials(sweep.folder) if (sweep.folder / "trials.jsonl").exists() else []
    if not found:
        return []
    document = store.read_run(sweep.folder)
    if "spec" not in document:
        raise UsageError(f"{sweep.folder} holds no result of a sweep: give another --output")
    changed = fingerprint.differences(document.get("fingerprints", {}), sweep.fingerprints)
    if changed and not sweep.allow_mixed:
        raise UsageError(
            f"{sweep.folder} holds {len(found)} trials made otherwise ({'; '.join(changed)}): "
            "--restart begins in a new folder, --allow-mixed goes on in this one and notes it"
        )
    try:
        _check_names(sweep, found)
    except (KeyError, TypeError) as error:
        raise StoreError(f"{sweep.folder} holds a trial without {error}: this is no result of a sweep") from None
    return found


def _check_names(sweep: Sweep, found: Sequence[Record]) -> None:
    """A trial that is there counts as done only if it is the one that the plan has under its name."""
    planned = {slot.trial: slot for slot in sweep.slots}
    for record in found:
        slot = planned.get(record["trial"])
        if slot is not None and _content(record) != _planned_content(slot, sweep.records):
            raise UsageError(
                f"{sweep.folder} has another trial under the name {record['trial']}: the changed spec orders trials "
                "otherwise, so they cannot be mixed; use --restart, or another --output"
            )


def _content(record: Record) -> tuple[Any, ...]:
    return record["image_id"], record["pair"], record["method"], record["gamma"], record["link"]


def _planned_content(slot: Slot, images: Sequence[ImageRecord]) -> tuple[Any, ...]:
    s = slot.setting
    return images[slot.image_index].image_id, s.pair, s.method.value, s.gamma, link_document(s.link)


def remaining(sweep: Sweep, found: Sequence[Record]) -> list[PlannedTrial]:
    """The trials still to be made, warm-ups aside."""
    done = {record["trial"] for record in found}
    return [
        PlannedTrial(slot, sweep.records[slot.image_index], False) for slot in sweep.slots if slot.trial not in done
    ]


def run_sweep(sweep: Sweep, show: Show) -> RunResult:
    """Make what is lacking, then judge and export. Finished trials stay, whatever is raised: what starting or a trial can raise.

    `show` is first called when nothing speaks against beginning: what is raised before is a refusal.
    """
    with store.owned(store.make_folder(sweep.folder)):
        found = earlier_trials(sweep)
        todo = remaining(sweep, found)
        if not todo and (whole := _finished_before(sweep, found)):
            return whole
        document = _begin_session(sweep, found)
        if todo:
            with TrialWriter(sweep.folder) as writer:
                _make(sweep, document, writer, todo, found, show)
        else:
            show(Step(len(sweep.slots), len(sweep.slots), None))
        return _finish(sweep, document, found)


def _finished_before(sweep: Sweep, found: list[Record]) -> RunResult | None:
    document = store.read_run(sweep.folder)
    return RunResult(sweep.folder, document, found) if document["provenance"]["finished_at"] else None


def _make(
    sweep: Sweep, document: Document, writer: TrialWriter, todo: list[PlannedTrial], found: list[Record], show: Show
) -> None:
    """Make warm-ups and `todo`; each record goes to the disk, then to `found`. What the servers run goes into `document`, run.json."""
    settings = list(dict.fromkeys(planned.slot.setting for planned in todo))
    warm = _unused_names(warmups(settings, sweep.spec.warmups, sweep.records[0]), found)
    total, done = len(sweep.slots), len(sweep.slots) - len(todo)
    total += 0 if sweep.ray else len(warm)
    show(Step(done, total, None))
    with closing(_batches(sweep, document, settings, warm, todo)) as batches:
        for records in batches:
            writer.append(*records)
            found += records
            done += len(records)
            total += len(records) if sweep.ray and records[0]["warmup"] else 0  # once a node, however many there are
            show(Step(done, total, records[-1]))


def _batches(
    sweep: Sweep, document: Document, settings: list[Setting], warm: list[PlannedTrial], todo: list[PlannedTrial]
) -> Generator[list[Record], None, None]:
    """Trials as they are finished: one at a time here, a block at a time over Ray."""
    options = sweep.spec.live_options()
    if sweep.ray:
        from aiflow_cli.trials.ray_sweep import Job, run_blocks

        expected = {} if sweep.allow_mixed else sweep.fingerprints
        yield from run_blocks(sweep.ray, Job(sweep.pairs, settings, options, warm, expected), todo)
        return
    with LiveWorld(sweep.pairs, settings, options) as world:
        for entry in document["pairs"]:
            if entry["name"] in world.served:
                entry.update(recorded(sweep.pairs[entry["name"]], world.served[entry["name"]]))
        store.write_run(sweep.folder, document)
        for planned in [*warm, *todo]:
            yield [world.trial(*planned)]


def _unused_names(warm: list[PlannedTrial], found: Sequence[Record]) -> list[PlannedTrial]:
    """Warm-ups of a later session count their blocks on, so that their names are new."""
    first = 1 + max((record["block"] for record in found if record["warmup"]), default=-1)
    return [planned._replace(slot=replace(planned.slot, block=planned.slot.block + first)) for planned in warm]


def _begin_session(sweep: Sweep, found: Sequence[Record]) -> dict[str, Any]:
    """run.json with this session in it."""
    gathered = provenance.gather()
    session = {key: gathered[key] for key in ("started_at", "command", "git", "host", "load_at_start")}
    session |= {"ray": sweep.ray, "trials_before": len(found)}
    document = _new_document(sweep, gathered)
    before = store.read_run(sweep.folder) if (sweep.folder / "run.json").exists() else {}
    if "sessions" in before:  # else it is of a run that failed as it started
        changed = fingerprint.differences(before["fingerprints"], sweep.fingerprints) if found else []
        mixed = [{"at": session["started_at"], "trials_before": len(found), "changed": changed}] if changed else []
        kept = before["provenance"] if found else gathered
        known = {pair["name"]: pair for pair in before["pairs"]} if found else {}
        document |= {
            "provenance": kept | {"finished_at": None},
            "pairs": [pair | known.get(pair["name"], {}) for pair in document["pairs"]],
            "sessions": before["sessions"],
            "mixed": before["mixed"] + mixed,
        }
    document["sessions"] = [*document["sessions"], session]
    store.write_run(sweep.folder, document)
    return document


def _new_document(sweep: Sweep, gathered: dict[str, Any]) -> dict[str, Any]:
    images = sweep.images
    return {
        "schema_version": store.SCHEMA_VERSION,
        "name": sweep.spec.name,
        "spec": sweep.spec.model_dump(mode="json"),
        "provenance": gathered,
        "pairs": [pair_document(pair) for pair in sweep.pairs.values()],
        "links": [link_document(link) for link in sweep.spec.link.links()],
        "data": {"name": images.name, "fingerprint": images.fingerprint, "images": len(images)},
        "trials": len(sweep.slots),
        "fingerprints": sweep.fingerprints,
        "sessions": [],
        "mixed": [],
    }


def _finish(sweep: Sweep, document: dict[str, Any], found: list[Record]) -> RunResult:
    """Judge the outputs and export. Done anew where a session ended in the middle of it."""
    if any(record["identical"] is None and identity.comparable(record) for record in found):
        found = judge(sweep, found, document["pairs"])
        store.rewrite_trials(sweep.folder, found)
    export(sweep.folder, found)
    document["provenance"]["finished_at"] = provenance.now()
    store.write_run(sweep.folder, document)
    return RunResult(sweep.folder, document, found)


def judge(sweep: Sweep, records: Sequence[Record], pairs: Sequence[Mapping[str, Any]]) -> list[Record]:
    """`records` with `identical` filled in, pair by pair; `pairs` as run.json has them, with what their servers computed in."""
    judged = {record["trial"]: record for record in records}
    spec = sweep.spec
    data = {image.image_id: image.data for image in sweep.records}
    servers = {pair["name"]: pair.get("server") or {} for pair in pairs}
    for name, pair in sweep.pairs.items():
        dtype = servers[name].get("dtype") or spec.dtype or pair.dtype_on(spec.device)
        quantize, question = servers[name].get("quantize", spec.quantize), spec.prompt or pair.question
        target = folder_here(pair, "target")
        probe = identity.reference_probe(target, spec.device, dtype, question, data.__getitem__, quantize)
        mine = [record for record in records if record["pair"] == name]
        judged |= {record["trial"]: record for record in identity.judge(mine, dtype, probe)}
    return list(judged.values())
