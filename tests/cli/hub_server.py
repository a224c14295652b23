"""A server that stands in for the Hugging Face hub: folders as repositories, with the few routes that fetching one
needs.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from typer.testing import Result

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = "model.safetensors"
SILENT_S = 30.0
Run = Callable[..., Result]
Process = Callable[..., subprocess.CompletedProcess[str]]
_LARGE = (".safetensors", ".model", ".bin")
_API = re.compile(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/?]+)")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Hub:
    """Repositories by id. `faults[file]` lists what goes wrong with downloads of a file, one entry a request, before
    all is well: "cut" (half of what is left, then the connection breaks), "silent" (then nothing more comes), "reset",
    "wrong" (other bytes), "short" and "long" (another length), "slow", "wait N" (429, with a pause that is asked for),
    or a status code. `faults["api"]` does so for what the hub says of a repository, and `lies` changes that.
    """

    folders: dict[str, Path]
    faults: dict[str, list[str]] = field(default_factory=dict)
    lies: Callable[[dict[str, Any]], Any] = lambda document: document
    etag: str = ""
    gated: bool = False
    knows_ranges: bool = True
    requests: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    url: str = ""

    def fetched(self, name: str) -> int:
        """How often a file's content was asked for."""
        return sum(request.startswith("GET ") and request.endswith(f"/{name}") for request in self.requests)


def _entry(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path.name, "size": len(data), "oid": oid}
    if path.suffix in _LARGE:
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    fault = ""

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def _handle(self) -> None:
        path, hub = self.path.partition("?")[0], self.server.hub
        hub.requests.append(f"{self.command} {path}")
        match = _API.fullmatch(path) or _FILE.fullmatch(path)
        if match is None or match[1] not in hub.folders:
            self._refuse(401, "RepoNotFound", "Repository not found")
        elif hub.gated:
            self._refuse(403, "GatedRepo", "Access to this model is restricted")
        elif path.startswith("/api/"):
            self._api(match[1], match[2], match[3])
        else:
            self._file(hub.folders[match[1]] / match[3])

    def _api(self, repository: str, kind: str, revision: str) -> None:
        if revision not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
            return
        if self._refused("api"):
            return
        entries = [_entry(path) for path in sorted(self.server.hub.folders[repository].iterdir())]
        if kind == "tree":
            self._json(entries)
            return
        siblings = [
            {"rfilename": e["path"], "size": e["size"], "blobId": e["oid"]}
            | ({"lfs": {"sha256": e["lfs"]["oid"], "size": e["size"], "pointerSize": 130}} if "lfs" in e else {})
            for e in entries
        ]
        told = {"id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings}
        self._json(self.server.hub.lies(told))

    def _file(self, path: Path) -> None:
        if not path.is_file():
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        entry, data, hub = _entry(path), path.read_bytes(), self.server.hub
        etag = hub.etag or (entry["lfs"]["oid"] if "lfs" in entry else entry["oid"])
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if "lfs" in entry:
            headers |= {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(data))}
        if self.command == "GET" and self._refused(path.name):
            return
        wanted = self.headers.get("Range", "")
        status, first = 200, 0
        if wanted and self.command == "GET":
            hub.ranges.append(wanted)
            if hub.knows_ranges:
                first = int(wanted.removeprefix("bytes=").rstrip("-"))
                status, headers["Content-Range"] = 206, f"bytes {first}-{len(data) - 1}/{len(data)}"
        body = data[first:]
        changed = {"wrong": b"x" * len(body), "short": body[: len(body) // 2], "long": body + b"more"}
        body = changed.get(self.fault, body)
        cut = len(body) // 2 if self.fault in ("cut", "silent") else None
        self._answer(status, body, headers, cut, self.fault == "slow")

    def _refused(self, name: str) -> bool:
        """Take the next fault of `name`; whether the request has been answered with it."""
        waiting = self.server.hub.faults.get(name)
        self.fault = waiting.pop(0) if waiting else ""
        if self.fault.isdecimal():
            self._answer(int(self.fault), b"trouble", {})
        elif self.fault.startswith("wait "):
            self._answer(429, b"not so fast", {"Retry-After": self.fault.removeprefix("wait ")})
        elif self.fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        else:
            return False
        return True

    def _json(self, document: Any) -> None:
        body = json.dumps(document).encode()
        self._answer(200, body, {"Content-Type": "application/json"}, 5 if self.fault == "silent" else None)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None, slow: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            step = 20_000 if slow else 1 << 20
            for start in range(0, len(body[:cut]), step):
                self.wfile.write(body[:cut][start : start + step])
                if slow:
                    time.sleep(0.1)
        if self.fault == "silent":
            time.sleep(SILENT_S)
        if cut is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the play."""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub on a free port of this machine."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.hub = hub
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield hub
        server.shutdown()
        thread.join()


def document(finished: Result) -> dict[str, Any]:
    assert finished.exit_code == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def snapshot(tmp_path: Path, name: str = "Target") -> Path:
    return tmp_path / "hf" / "hub" / f"models--Tiny--{name}" / "snapshots" / COMMIT


def error(finished: Result, code: int) -> str:
    """The one line of a command that failed."""
    assert finished.exit_code == code, finished.stderr
    lines = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, finished.stderr
    return lines[0]
