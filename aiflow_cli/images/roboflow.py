"""The 416 x 416 export from where it was made (Roboflow, a free key) or from its copy on Kaggle."""

from __future__ import annotations

import importlib
import io
import json
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from aiflow_cli import environment
from aiflow_cli.errors import AiflowError, PrerequisiteError
from aiflow_cli.images.fetch import Fetcher, FetchError

ROBOFLOW_URL = "https://api.roboflow.com"
ROBOFLOW_EXPORT = "roboflow-gw7yv/vehicles-openimages/1/yolov8"
KAGGLE_DATASET = "alkanerturan/vehicledetection"
_OTHERWISE = "or use the default source, which needs no account"


def fetch_roboflow(
    fetcher: Fetcher, on_bytes: Callable[[int], None], poll_s: float = 3.0, patience_s: float = 300.0
) -> io.BytesIO:
    """The export as a zip in memory (some 40 MB). Roboflow may first have to make it: asked again every `poll_s`.

    `on_bytes(n)` reports the bytes so far. Raises PrerequisiteError without `ROBOFLOW_API_KEY`, AiflowError if Roboflow
    refuses or does not deliver.
    """
    key = environment.ROBOFLOW_KEY.value()
    if not key:
        raise PrerequisiteError(f"ROBOFLOW_API_KEY is not set: set it to your key, {_OTHERWISE}")
    url = f"{environment.ROBOFLOW_URL.value() or ROBOFLOW_URL}/{ROBOFLOW_EXPORT}"
    try:
        link = _wait_for_link(fetcher, url, key, poll_s, time.monotonic() + patience_s)
    except FetchError as error:
        raise AiflowError(f"Roboflow did not deliver ({error}): check ROBOFLOW_API_KEY, {_OTHERWISE}") from error
    archive = io.BytesIO()
    try:
        for piece in fetcher.stream(link):
            archive.write(piece)
            on_bytes(archive.tell())
    except FetchError as error:
        raise AiflowError(f"Roboflow's zip did not come ({error}): try later, {_OTHERWISE}") from error
    return archive


def _wait_for_link(fetcher: Fetcher, url: str, key: str, poll_s: float, ends: float) -> str:
    while True:
        reply = fetcher.get(url, params={"api_key": key, "nocache": "true"})
        if reply.status >= 400:
            raise FetchError(f"HTTP {reply.status}")
        link = _link(reply.data) if reply.status == 200 else None
        if link:
            return link
        if time.monotonic() > ends:
            raise FetchError("the export was not ready in time")
        fetcher.stop.wait(poll_s)


def _link(data: bytes) -> str | None:
    try:
        export = json.loads(data).get("export") or {}
        return str(export["link"]) if "link" in export else None
    except (ValueError, AttributeError, TypeError) as error:
        raise FetchError("its answer was not understood") from error


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
