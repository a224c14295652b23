"""Download Vehicles-OpenImage: what is there already, what is fetched from which source, what is missing at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

from aiflow_cli.errors import AiflowError, UsageError
from aiflow_cli.fetching import RetryPolicy, alone
from aiflow_cli.images.attribution import find_attributions, read_attributions, write_attributions
from aiflow_cli.images.exports import fetch_kaggle, fetch_roboflow, import_photos
from aiflow_cli.images.fetch import Fetcher, FetchError, Progress
from aiflow_cli.images.openimages import SPLITS, Answers, Bucket
from aiflow_cli.images.vehicles import Kind, manifest, stored_kind, storing
from aiflow_cli.paths import user_path
from aiflow_cli.text import printable

FORM_OF = {"openimages": Kind.UNRESIZED, "roboflow": Kind.EXPORT, "kaggle": Kind.EXPORT}

Tell = Callable[[str], None]
PATIENT = RetryPolicy()


def _silent(*_: object) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class DownloadReport:
    """How a download ended. `missing` gives a reason for each photograph that is not there."""

    folder: Path
    source: str
    wanted: int
    fetched: int
    kinds: dict[str, int]
    missing: dict[str, str]

    @property
    def present(self) -> int:
        """Photographs that are there now, checked."""
        return self.wanted - len(self.missing)

    @property
    def in_other_form(self) -> bool:
        """Whether what is there is the form of the data set that the source does not give (it was there before)."""
        return self.source in FORM_OF and not set(self.kinds) <= {FORM_OF[self.source]}

    def as_json(self) -> dict[str, Any]:
        """The document that `--json` prints."""
        return asdict(self) | {
            "schema_version": 1,
            "folder": printable(str(self.folder)),
            "present": self.present,
            "already_there": self.present - self.fetched,
            "missing": [{"image_id": image_id, "reason": reason} for image_id, reason in self.missing.items()],
        }


def download(
    source: str,
    folder: Path,
    *,
    limit: int | None = None,
    jobs: int = 8,
    force: bool = False,
    policy: RetryPolicy = PATIENT,
    progress: Progress = _silent,
    tell: Tell = _silent,
) -> DownloadReport:
    """Bring the first `limit` photographs (all 627 by default) into `folder`, from a source of `FORM_OF` or a path.

    What is there and sound is kept, unless `force`, which also asks again for what was once "not here". While another
    download into the folder runs, its end is awaited, and `tell` is told. Raises UsageError, PrerequisiteError, or
    StoreError (disk full, a folder that cannot be written); photographs that do not come are in the report.
    """
    _check(source, limit, jobs)
    wanted, missing = list(manifest())[:limit], {}
    with _alone(folder, tell):
        answers = Answers(folder, forget_absent=force)
        there = {} if force else _take_stock(folder, answers, wanted, progress)
        if lacking := [image_id for image_id in wanted if image_id not in there]:
            with Fetcher(policy) as fetcher:
                missing = _obtain(source, lacking, jobs, Bucket(fetcher, answers, folder), progress)
        came = _take_stock(folder, answers, lacking, _silent)
    kinds = Counter(map(str, (*there.values(), *came.values())))
    reasons = {i: missing.get(i, "not sound after it was written") for i in lacking if i not in came}
    return DownloadReport(folder, source, len(wanted), len(came.keys() - missing.keys()), dict(kinds), reasons)


def _alone(folder: Path, tell: Tell) -> AbstractContextManager[None]:
    """Make the folder if need be, and hold it."""
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    line = f"another download into {folder} is running: waiting for its end"
    return alone(folder / ".download.lock", partial(tell, line))


def _check(source: str, limit: int | None, jobs: int) -> None:
    if source not in FORM_OF:
        path, found = user_path(source), False
        with suppress(OSError):  # a folder that is not ours to look into
            found = path.exists()
        if not found:
            raise UsageError(f"no source `{source}`: give {', '.join(FORM_OF)}, or an existing folder or zip")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: give 1 or more")
    if not 1 <= jobs <= 64:
        raise UsageError(f"--jobs {jobs}: give 1 to 64")


def _take_stock(folder: Path, answers: Answers, wanted: list[str], progress: Progress) -> dict[str, Kind]:
    there: dict[str, Kind] = {}
    for done, image_id in enumerate(wanted, 1):
        if kind := stored_kind(folder, image_id, answers.sha256):
            there[image_id] = kind
        progress("checking", done, len(wanted))
    return there


def _obtain(source: str, lacking: list[str], jobs: int, bucket: Bucket, progress: Progress) -> dict[str, str]:
    number = count(1)

    def on_done() -> None:
        progress("photographs", next(number), len(lacking))

    if source == "openimages":
        return bucket.fetch_all(lacking, jobs, on_done)
    archive: Path | BytesIO
    if source == "roboflow":
        progress("waiting for Roboflow", 0, 0)
        archive = fetch_roboflow(bucket.fetcher, progress)
    else:
        archive = fetch_kaggle() if source == "kaggle" else user_path(source)
    return import_photos(archive, lacking, bucket.folder, on_done)


@dataclass(frozen=True)
class AttributionReport:
    """Where the table of authors and licences is, and the photographs that Open Images' own tables do not name."""

    file: Path
    wanted: int
    missing: list[str]

    def as_json(self) -> dict[str, Any]:
        """The part of the document that `--json` prints."""
        return asdict(self) | {"file": printable(str(self.file))}


def download_attributions(
    folder: Path,
    *,
    limit: int | None = None,
    force: bool = False,
    policy: RetryPolicy = PATIENT,
    progress: Progress = _silent,
    tell: Tell = _silent,
) -> AttributionReport:
    """Write `attribution.csv` into `folder`: author, licence and pages of each.

    Rows that it holds already are kept, unless `force`. Raises AiflowError if a table cannot be read; what was found by
    then is written.
    """
    file, wanted = folder / "attribution.csv", list(manifest())[:limit]
    with _alone(folder, tell):
        rows = {} if force else read_attributions(file)
        lacking = [image_id for image_id in wanted if image_id not in rows]
        answers = Answers(folder)
        splits = {split for image_id in lacking for split in answers.splits_to_try(image_id) or SPLITS}
        try:
            with Fetcher(policy) as fetcher:
                for row in find_attributions(fetcher, lacking, splits, progress):
                    rows[row["image_id"]] = row
        except FetchError as error:
            raise AiflowError(f"no attribution of some photographs: {error}; try again later") from error
        finally:
            if rows:
                write_attributions(file, (rows[image_id] for image_id in manifest() if image_id in rows))
    return AttributionReport(file, len(wanted), [image_id for image_id in wanted if image_id not in rows])
