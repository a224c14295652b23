"""Images made on the spot, the real photographs where they are, and a server that behaves like the bucket."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aiflow_cli.fetching import RetryPolicy
from aiflow_cli.images.download import DownloadReport, download
from aiflow_cli.images.vehicles import manifest

QUICK = RetryPolicy(attempts=3, first_pause_s=0.01, longest_pause_s=0.05, timeout_s=1.0, deadline_s=10.0)
TWELVE = list(manifest())[:12]
"""The photographs that `bucket` of conftest.py holds, four in each split."""
REAL = Path(__file__).parents[3] / "shared" / "data" / "vehicles-openimage"


def make_image(seed: int, width: int = 48, height: int = 32, form: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


@dataclass
class BucketServer:
    """Objects by path. `faults[path]` is a list of what goes wrong, one entry for each request, before all is well."""

    objects: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    absent_status: int = 403
    knows_ranges: bool = True
    ranges: list[str] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    url: str = ""
    custom: Callable[[BaseHTTPRequestHandler], bool] = lambda handler: False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self, path: str) -> str:
        with self._lock:
            self.requests[path] += 1
            waiting = self.faults.get(path)
            return waiting.pop(0) if waiting else ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        bucket = self.server.bucket
        path = self.path.partition("?")[0]
        fault = bucket.next_fault(path)
        if bucket.custom(self):
            return
        data = bucket.objects.get(path)
        if fault.startswith("wait "):
            self._answer(429, b"not so fast", header=("Retry-After", fault.removeprefix("wait ")))
        elif fault.isdecimal():
            self._answer(int(fault), b"trouble")
        elif data is None:
            self._answer(bucket.absent_status, b"<Error><Code>AccessDenied</Code></Error>")
        elif fault == "drop":
            self._ranged(data, cut=True)
        elif fault == "wrong":
            self._answer(200, b"<html>captive portal</html>")
        elif fault == "truncated":
            self._answer(200, data[: len(data) // 2])
        elif fault == "hang":
            time.sleep(2.0)
            self.close_connection = True
        else:
            self._ranged(data, slow=fault == "slow")

    def _ranged(self, data: bytes, slow: bool = False, cut: bool = False) -> None:
        start = self.headers.get("Range", "")
        if start:
            first = int(start.removeprefix("bytes=").rstrip("-"))
            bucket = self.server.bucket
            bucket.ranges.append(start)
            if bucket.knows_ranges:
                header = ("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
                self._answer(206, data[first:], cut=(len(data) - first) // 2 if cut else None, header=header)
                return
        self._answer(200, data, cut=len(data) // 2 if cut else None, slow=slow)

    def _answer(
        self,
        status: int,
        data: bytes,
        cut: int | None = None,
        slow: bool = False,
        header: tuple[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if header:
            self.send_header(*header)
        self.end_headers()
        for start in range(0, len(data[:cut]), 512 if slow else 1 << 20):
            self.wfile.write(data[:cut][start : start + (512 if slow else 1 << 20)])
            if slow:
                time.sleep(0.02)
        if cut is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    bucket: BucketServer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the play."""


@contextmanager
def serve_bucket() -> Iterator[BucketServer]:
    """A server on a free port, to which all remote sources are pointed."""
    with _Server(("127.0.0.1", 0), _Handler) as server, pytest.MonkeyPatch.context() as patch:
        server.bucket = BucketServer(url=f"http://127.0.0.1:{server.server_port}")
        for variable in ("OPENIMAGES", "OPENIMAGES_METADATA", "ROBOFLOW"):
            patch.setenv(f"AIFLOW_{variable}_URL", server.bucket.url)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server.bucket
        server.shutdown()


def real_photos() -> Path:
    """The folder of the 627 photographs; the test is skipped where they are not."""
    if not REAL.is_dir():
        pytest.skip("the 627 photographs are not on this machine")
    return REAL


def fetch_twelve(folder: Path, limit: int = 12, force: bool = False) -> DownloadReport:
    return download("openimages", folder, limit=limit, jobs=4, force=force, policy=QUICK)


def leftovers(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir() if file.name.endswith(".tmp")]
