"""Photographs from Open Images' public bucket, no account needed: `<base>/<split>/<image_id>.jpg`, at most 1024 pixels.

In which of its three splits an image lies is not known beforehand (the export's splits are others), so each is tried,
and every answer is remembered in `openimages.jsonl` beside the photographs: a later run asks no question twice.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiflow_cli import environment
from aiflow_cli.errors import ImageError
from aiflow_cli.images.fetch import ABSENT, Fetcher, FetchError, spread
from aiflow_cli.images.photostore import PhotoStore, identify, not_written

DEFAULT_URL = "https://open-images-dataset.s3.amazonaws.com"
SPLITS = ("train", "validation", "test")
GIVE_UP_AFTER = 20
"""So many images in a row that do not come, and the rest is not asked for: the network or the bucket is down."""


class Answers:
    """What the bucket has said so far: status by image and split, and the SHA-256 of what came.

    "Not here" is written down only once some image was found: behind a proxy that forbids all, each answer is a 403.
    """

    def __init__(self, file: Path) -> None:
        """Read the answers of earlier runs; a last line cut short, or a file out of reach, is passed over."""
        self._file = file
        try:
            text = file.read_text(encoding="utf-8-sig", errors="replace")
        except OSError:  # it is only a memory: what is not in it is asked again
            text = ""
        self._before_next = "\n" if text and not text.endswith("\n") else ""
        self._lock = threading.Lock()
        self._held_back: list[dict[str, Any]] = []
        self._status: dict[str, dict[str, int]] = {}
        self.sha256: dict[str, str] = {}
        for line in text.splitlines():
            with suppress(ValueError, KeyError, TypeError):
                self._apply(json.loads(line))

    def _apply(self, entry: dict[str, Any]) -> None:
        self._status.setdefault(entry["image_id"], {})[entry["split"]] = entry["status"]
        if entry["status"] == 200:
            self.sha256[entry["image_id"]] = entry["sha256"]

    def splits_to_try(self, image_id: str) -> list[str]:
        """The split that is known to hold the image, or those that have not been ruled out."""
        found = self.split(image_id)
        return [found] if found else [split for split in SPLITS if split not in self._status.get(image_id, {})]

    def split(self, image_id: str) -> str | None:
        """The split that holds the image, if known."""
        known = self._status.get(image_id, {})
        return next((split for split, status in known.items() if status == 200), None)

    def add(self, image_id: str, split: str, status: int, data: bytes) -> None:
        """Remember one answer; StoreError if it cannot be written."""
        entry: dict[str, Any] = {"image_id": image_id, "split": split, "status": status}
        if status == 200:
            entry |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        with self._lock:
            self._held_back.append(entry)
            if status == 200 or self.sha256:
                self._write()

    def forget_absent(self) -> None:
        """Let splits that were ruled out be asked again."""
        for image_id, known in self._status.items():
            self._status[image_id] = {split: status for split, status in known.items() if status not in ABSENT}

    def _write(self) -> None:
        lines = "".join(json.dumps(entry) + "\n" for entry in self._held_back)
        try:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(self._before_next + lines)
        except OSError as error:
            raise not_written(self._file, error) from error
        self._before_next = ""
        for entry in self._held_back:
            self._apply(entry)
        self._held_back.clear()


@dataclass(frozen=True)
class Bucket:
    """Where the photographs are, the answers it gave, and where they go."""

    fetcher: Fetcher
    answers: Answers
    store: PhotoStore
    url: str = field(default_factory=lambda: environment.OPENIMAGES_URL.value() or DEFAULT_URL)

    def fetch(self, image_id: str) -> bool:
        """Store the photograph; False if no split has it. Raises FetchError when a request fails for good."""
        name = f"{image_id}.jpg"
        for split in self.answers.splits_to_try(image_id):
            reply = self.fetcher.get(
                f"{self.url}/{split}/{name}", check=lambda data: identify(image_id, data, name), limit_bytes=32_000_000
            )
            if reply.data:
                self.store.save(image_id, reply.data)
            self.answers.add(image_id, split, reply.status, reply.data)
            if reply.data:
                return True
        return False

    def fetch_all(self, image_ids: list[str], jobs: int, on_done: Callable[[str, bool], None]) -> dict[str, str]:
        """Fetch many in `jobs` threads; why each missing one is missing, by id.

        `on_done(image_id, stored)` is called in this thread as they finish.
        """
        missing = dict.fromkeys(image_ids, "not asked for: too many failures before it")
        in_a_row = 0
        for image_id, outcome in spread(self.fetch, image_ids, jobs, self.fetcher.stop):
            failed = isinstance(outcome, Exception)
            if isinstance(outcome, Exception) and not isinstance(outcome, (FetchError, ImageError)):
                raise outcome
            on_done(image_id, outcome is True)
            missing[image_id] = str(outcome) if failed else "in none of the splits"
            # Once the bucket has given any image, "not here" is an honest answer of it and no sign of trouble.
            in_a_row += failed or not self.answers.sha256
            if outcome is True:
                del missing[image_id]
                in_a_row = 0
            if in_a_row >= GIVE_UP_AFTER:
                self.fetcher.stop.set()
        return missing
