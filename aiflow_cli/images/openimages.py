"""Photographs from Open Images' public bucket, no account needed: `<base>/<split>/<image_id>.jpg`, at most 1024 pixels.

In which of its three splits an image lies is not known beforehand (the export's splits are others), so each is tried,
and every answer is remembered in `openimages.jsonl` beside the photographs: a later run asks no question twice.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from aiflow_cli import environment
from aiflow_cli.images.fetch import ABSENT, Fetcher, FetchError
from aiflow_cli.images.vehicles import identify, save, storing

DEFAULT_URL = "https://open-images-dataset.s3.amazonaws.com"
SPLITS = ("train", "validation", "test")
GIVE_UP_AFTER = 20
"""So many images in a row that do not come, and the rest is not asked for: the network or the bucket is down."""
_NOT_ASKED = "not asked for: too many failures before it"
_IN_NO_SPLIT = "in none of the splits"


class Answers:
    """What the bucket has said so far: status by image and split, and the SHA-256 of what came.

    "Not here" is written down only once some image was found: behind a proxy that forbids all, each answer is a 403.
    """

    def __init__(self, folder: Path, forget_absent: bool = False) -> None:
        """Read the answers of earlier runs, without those that ruled a split out if they are to be asked again.

        A last line cut short, or a file out of reach, is passed over: it is only a memory, what is not in it is asked
        again.
        """
        self._file, self._lock, text = folder / "openimages.jsonl", threading.Lock(), ""
        with suppress(OSError):
            text = self._file.read_text(encoding="utf-8-sig", errors="replace")
        self._before_next = "\n" if text and not text.endswith("\n") else ""
        self._held_back: list[dict[str, Any]] = []
        self._status: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self.sha256: dict[str, str] = {}
        for line in text.splitlines():
            with suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                if not (forget_absent and entry["status"] in ABSENT):
                    self._apply(entry)

    def _apply(self, entry: dict[str, Any]) -> None:
        self._status[entry["image_id"]][entry["split"]] = entry["status"]
        if entry["status"] == 200:
            self.sha256[entry["image_id"]] = entry["sha256"]

    def splits_to_try(self, image_id: str) -> list[str]:
        """The split that is known to hold the image, or those that have not been ruled out."""
        known = self._status[image_id]
        found = [split for split, status in known.items() if status == 200]
        return found[:1] or [split for split in SPLITS if split not in known]

    def add(self, image_id: str, split: str, status: int, data: bytes) -> None:
        """Remember one answer; StoreError if it cannot be written."""
        entry: dict[str, Any] = {"image_id": image_id, "split": split, "status": status}
        if status == 200:
            entry |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        with self._lock:
            self._held_back.append(entry)
            if status == 200 or self.sha256:
                lines = "".join(json.dumps(entry) + "\n" for entry in self._held_back)
                with storing(self._file), self._file.open("a", encoding="utf-8") as file:
                    file.write(self._before_next + lines)
                for entry in self._held_back:
                    self._apply(entry)
                self._before_next, self._held_back = "", []


@dataclass(frozen=True)
class Bucket:
    """Where the photographs are, the answers it gave, and where they go."""

    fetcher: Fetcher
    answers: Answers
    folder: Path
    url: str = field(default_factory=lambda: environment.OPENIMAGES_URL.value() or DEFAULT_URL)

    def fetch_all(self, image_ids: list[str], jobs: int, on_done: Callable[[], None]) -> dict[str, str]:
        """Fetch many in `jobs` threads; why each missing one is missing, by id. `on_done` is called after each.

        The threads are daemons: Ctrl-C need not wait for a server that is silent.
        """
        missing, in_a_row = dict.fromkeys(image_ids, _NOT_ASKED), 0
        with ThreadPool(min(jobs, len(image_ids))) as pool:
            try:
                for image_id, reason in pool.imap_unordered(self._fetch, image_ids):
                    if reason == _NOT_ASKED:
                        continue
                    on_done()
                    if reason is None:
                        del missing[image_id]
                        in_a_row = 0
                    else:
                        missing[image_id] = reason
                        # Once the bucket has given any image, "not here" is an honest answer and no sign of trouble.
                        in_a_row += reason != _IN_NO_SPLIT or not self.answers.sha256
                    if in_a_row >= GIVE_UP_AFTER:
                        self.fetcher.stop.set()
            finally:
                self.fetcher.stop.set()
        return missing

    def _fetch(self, image_id: str) -> tuple[str, str | None]:
        """Store a photograph; its id, and why it did not come."""
        if self.fetcher.stop.is_set():
            return image_id, _NOT_ASKED
        name = f"{image_id}.jpg"
        for split in self.answers.splits_to_try(image_id):
            try:
                data = self.fetcher.get(f"{self.url}/{split}/{name}", lambda data: identify(image_id, data, name))
            except FetchError as error:
                if error.absent is None:
                    return image_id, str(error)
                self.answers.add(image_id, split, error.absent, b"")
                continue
            save(self.folder / name, data)
            self.answers.add(image_id, split, 200, data)
            return image_id, None
        return image_id, _IN_NO_SPLIT
