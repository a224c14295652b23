"""One run: every image with every setting, in blocks; each finished trial is on the disk before the next starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiflow_cli.models.pair import PairSpec, find_pair
from aiflow_cli.trials import identity, provenance
from aiflow_cli.trials.live import LiveOptions, LiveWorld, link_document
from aiflow_cli.trials.schedule import Slot, schedule
from aiflow_cli.trials.served import folder_here, recorded
from aiflow_cli.trials.settings import RunSettings, Setting
from aiflow_cli.trials.store import (
    SCHEMA_VERSION,
    Record,
    TrialWriter,
    check_unused,
    new_folder,
    owned,
    rewrite_trials,
    write_run,
)

if TYPE_CHECKING:
    from aiflow_cli.images.imageset import ImageRecord, ImageSet


class Step(NamedTuple):
    """How far a run is: trials done of all (warm-ups included), and the last record; None while processes start."""

    done: int
    total: int
    record: Record | None


Show = Callable[[Step], None]


@dataclass(frozen=True)
class RunResult:
    """A finished run: where it is, its document (run.json), and its trials, judged."""

    folder: Path
    document: dict[str, Any]
    records: list[Record]

    @property
    def measured(self) -> list[Record]:
        """The trials without the warm-ups."""
        return [record for record in self.records if not record["warmup"]]

    @property
    def mismatches(self) -> list[Record]:
        """The trials whose output is not server-only's."""
        return [record for record in self.records if record["identical"] is False]

    @property
    def defects(self) -> list[Record]:
        """The mismatches that rounding does not explain: it cannot, or the target is not here to tell."""
        return [record for record in self.mismatches if record["mismatch"]["kind"] != "tie"]


def run_trials(settings: RunSettings, output: Path | None, show: Show) -> RunResult:
    """Run `settings` live and judge the outputs. Raises what starting or a trial raises; finished trials are kept then."""
    from aiflow_cli.images.source import open_images

    pair = find_pair(settings.pair, settings.draft, settings.target)
    images = open_images(settings.data, settings.images, settings.seed)
    folder = new_folder("run", output)
    with owned(folder):
        check_unused(folder)
        return _run(settings, pair, images, folder, show)


def _run(settings: RunSettings, pair: PairSpec, images: ImageSet, folder: Path, show: Show) -> RunResult:
    """Make all trials in a folder that is held, then judge them."""
    document = run_document(settings, pair, images)
    write_run(folder, document)
    plan = planned_trials(settings, list(images))
    show(Step(0, len(plan), None))
    records: list[Record] = []
    with TrialWriter(folder) as writer, LiveWorld({pair.name: pair}, settings.grid(), live_options(settings)) as world:
        served = world.served[pair.name]
        document["pair"] |= recorded(pair, served)
        write_run(folder, document)
        for planned in plan:
            records.append(world.trial(*planned))
            writer.append(records[-1])
            show(Step(len(records), len(plan), records[-1]))
    question = settings.prompt or pair.question
    by_id = {image.image_id: image.data for image in images}
    probe = identity.reference_probe(
        folder_here(pair, "target"),
        settings.device,
        served.dtype,
        question,
        lambda image_id: by_id[image_id],
        served.quantize,
    )
    records = identity.judge(records, served.dtype, probe)
    rewrite_trials(folder, records)
    document["provenance"]["finished_at"] = provenance.now()
    write_run(folder, document)
    return RunResult(folder, document, records)


def live_options(settings: RunSettings) -> LiveOptions:
    """What all trials of `settings` share."""
    return LiveOptions(
        device=settings.device,
        dtype=settings.dtype,
        quantize=settings.quantize,
        exact=settings.exact,
        threads=settings.threads,
        prompt=settings.prompt,
        max_new_tokens=settings.max_new_tokens,
        server=settings.server,
    )


class PlannedTrial(NamedTuple):
    """A trial to be made."""

    slot: Slot
    image: ImageRecord
    warmup: bool


def planned_trials(settings: RunSettings, images: Sequence[ImageRecord]) -> list[PlannedTrial]:
    """Warm-ups, then all trials, in the order in which they are made."""
    grid = settings.grid()
    slots = schedule(len(images), grid, settings.repeats, settings.seed)
    measured = [PlannedTrial(slot, images[slot.image_index], False) for slot in slots]
    return [*warmups(grid, settings.warmups, images[0]), *measured]


def warmups(grid: Sequence[Setting], repeats: int, image: ImageRecord) -> list[PlannedTrial]:
    """The first image with every setting, `repeats` times, to be thrown away: memory, caches and clocks settle."""
    return [
        PlannedTrial(Slot(repeat, order, repeat, 0, setting), image, True)
        for repeat in range(repeats)
        for order, setting in enumerate(grid)
    ]


def run_document(settings: RunSettings, pair: PairSpec, images: ImageSet) -> dict[str, Any]:
    """run.json before the server has said what it runs."""
    return {
        "schema_version": SCHEMA_VERSION,
        "name": "run",
        "settings": settings.model_dump(mode="json"),
        "provenance": provenance.gather(),
        "pair": pair_document(pair),
        "link": link_document(settings.link),
        "data": {
            "name": images.name,
            "fingerprint": images.fingerprint,
            "images": len(images),
            "note": images.note,
        },
    }


def pair_document(pair: PairSpec) -> dict[str, Any]:
    """A pair in JSON."""
    return {"name": pair.name, "about": pair.about, "draft": Path(pair.draft).name, "target": Path(pair.target).name}
