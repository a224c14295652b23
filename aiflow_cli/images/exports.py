"""The 416 x 416 export: from Roboflow, where it was made (a free key), its copy on Kaggle, or a folder or zip on disk.

The export holds each of its 627 photographs twice in one split (`<image_id>_jpg.rf.<hash>.jpg`, two hashes, same
bytes): 1,254 files, of which 627 images come. A folder or zip may as well hold `<image_id>.jpg` files. Files are known
by name; whatever else lies between them is passed over. Nothing is unpacked to where a zip says: a member's folder is
not looked at, and a photograph goes where its id belongs.
"""

from __future__ import annotations

import importlib
import io
import json
import re
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path

import httpx

from aiflow_cli import environment
from aiflow_cli.errors import AiflowError, PrerequisiteError, UsageError
from aiflow_cli.images.fetch import Fetcher, FetchError, Progress
from aiflow_cli.images.folder import reading
from aiflow_cli.images.vehicles import identify, save
from aiflow_cli.text import one_line

ROBOFLOW_URL = "https://api.roboflow.com"
ROBOFLOW_EXPORT = "roboflow-gw7yv/vehicles-openimages/1/yolov8"
KAGGLE_DATASET = "alkanerturan/vehicledetection"
_OTHERWISE = "or use the default source, which needs no account"
_NAME = re.compile(r"(?P<image_id>[0-9a-f]{16})(_jpg\.rf\.[^./]+)?\.jpe?g", re.IGNORECASE)
_LARGEST_BYTES = 64_000_000

Candidate = tuple[str, Callable[[], bytes]]
"""A file that by its name is one of the photographs: that name, and how its bytes are read."""


def fetch_roboflow(fetcher: Fetcher, progress: Progress, poll_s: float = 3.0, patience_s: float = 300.0) -> io.BytesIO:
    """The export as a zip in memory (some 40 MB). Roboflow may first have to make it: asked again every `poll_s`.

    Raises PrerequisiteError without `ROBOFLOW_API_KEY`, AiflowError if Roboflow refuses or does not deliver.
    """
    key = environment.ROBOFLOW_KEY.value()
    if not key:
        raise PrerequisiteError(f"ROBOFLOW_API_KEY is not set: set it to your key, {_OTHERWISE}")
    base = environment.ROBOFLOW_URL.value() or ROBOFLOW_URL
    url = httpx.URL(f"{base}/{ROBOFLOW_EXPORT}", params={"api_key": key, "nocache": "true"})
    try:
        link = _wait_for_link(fetcher, url, poll_s, time.monotonic() + patience_s)
    except FetchError as error:
        raise AiflowError(f"Roboflow did not deliver ({error}): check ROBOFLOW_API_KEY, {_OTHERWISE}") from error
    try:
        return io.BytesIO(b"".join(fetcher.stream(link, "export", progress)))
    except FetchError as error:
        raise AiflowError(f"Roboflow's zip did not come ({error}): try later, {_OTHERWISE}") from error


def _wait_for_link(fetcher: Fetcher, url: httpx.URL, poll_s: float, ends: float) -> httpx.URL:
    while True:
        try:
            export = json.loads(fetcher.get(url) or b"{}").get("export") or {}  # nothing yet while it is being made
            if "link" in export:
                return httpx.URL(export["link"])
        except (ValueError, AttributeError, TypeError, RecursionError, httpx.InvalidURL) as error:
            raise FetchError("its answer was not understood") from error
        if time.monotonic() > ends:
            raise FetchError("the export was not ready in time")
        fetcher.stop.wait(poll_s)


def fetch_kaggle() -> Path:
    """The folder into which kagglehub downloads the copy. PrerequisiteError if kagglehub is not installed."""
    with redirect_stdout(sys.stderr):  # kagglehub logs to standard output, which is for data
        try:
            kagglehub = importlib.import_module("kagglehub")
        except ImportError as error:
            remedy = f"run `pip install kagglehub`, {_OTHERWISE}"
            raise PrerequisiteError(f"kagglehub is not installed ({error}): {remedy}") from error
        try:
            return Path(kagglehub.dataset_download(KAGGLE_DATASET))
        except Exception as error:  # kagglehub raises its own, requests' and the system's errors
            raise AiflowError(f"Kaggle did not deliver ({error}): try later, {_OTHERWISE}") from error


def import_photos(
    source: Path | io.BytesIO, wanted: list[str], folder: Path, on_done: Callable[[], None]
) -> dict[str, str]:
    """Copy the wanted photographs out of a folder or a zip into `folder`; why each missing one is missing, by id.

    Raises UsageError if `source` is neither, or holds none of the photographs.
    """
    missing: dict[str, str] = {}
    what = str(source) if isinstance(source, Path) else "the archive"
    with _candidates(source, what) as files:
        found: dict[str, list[Candidate]] = {}
        for name, read in files:
            if match := _NAME.fullmatch(name):
                found.setdefault(match["image_id"].lower(), []).append((name, read))
        if not found:
            holds = "holds none of the photographs (files named <image_id>.jpg)"
            raise UsageError(f"{what} {holds}: name another folder or zip")
        for image_id in wanted:
            reason = _import_one(image_id, found.get(image_id, []), folder)
            if reason is not None:
                missing[image_id] = reason
            on_done()
    return missing


def _import_one(image_id: str, candidates: list[Candidate], folder: Path) -> str | None:
    reason = "not in the source"
    for name, read in candidates:
        try:
            data = read()
            identify(image_id, data, name)
        except Exception as error:  # whatever a damaged or encrypted member raises; its duplicate may be sound
            reason = one_line(error)
            continue
        save(folder / f"{image_id}.jpg", data)
        return None
    return reason


@contextmanager
def _candidates(source: Path | io.BytesIO, what: str) -> Iterator[Iterable[Candidate]]:
    """The files of a folder or an archive, which stays open meanwhile."""
    if isinstance(source, Path) and source.is_dir():
        with reading(source):
            next(source.iterdir(), None)  # what may not be listed is passed over below
            files = [file for file in sorted(source.rglob("*")) if file.is_file()]
        yield ((file.name, file.read_bytes) for file in files)
        return
    try:
        archive = zipfile.ZipFile(source)
    except Exception as error:  # a damaged directory of a zip raises many kinds (struct.error, UnicodeDecodeError, ...)
        raise UsageError(f"{what} is neither a folder nor a zip that can be read ({error})") from error
    with archive:
        members = [m for m in archive.infolist() if not m.is_dir() and m.file_size <= _LARGEST_BYTES]
        # Some programs write Windows' separator.
        yield ((re.split(r"[/\\]", m.filename)[-1], partial(archive.read, m)) for m in members)
