from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import pytest

from aiflow_cli.errors import AiflowError, PrerequisiteError
from aiflow_cli.images.download import download
from tests.images.bucket_server import QUICK
from tests.images.exported import export, packed


def test_kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With a package in kagglehub's place that logs to standard output and "downloads" to a folder, as that does."""
    folder = export(tmp_path / "cache" / "VehiclesDetectionDataset", 3).parent
    code = f"def dataset_download(name):\n    print('Downloading', name)\n    return {str(folder)!r}\n"
    (tmp_path / "kagglehub.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kagglehub", raising=False)
    assert download("kaggle", tmp_path / "out", limit=3, policy=QUICK).present == 3
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "Downloading alkanerturan/vehicledetection\n")


def test_kaggle_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(PrerequisiteError, match="pip install kagglehub"):
        download("kaggle", tmp_path, limit=3, policy=QUICK)


def test_kaggle_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kagglehub.py").write_text("def dataset_download(name):\n    raise ConnectionError('no route')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kagglehub", raising=False)
    with pytest.raises(AiflowError, match=r"Kaggle did not deliver \(no route\)"):
        download("kaggle", tmp_path / "out", limit=3, policy=QUICK)


KAGGLE_PORT = 7777
"""Where kagglehub looks for its server when KAGGLE_API_ENVIRONMENT is TEST; it knows no other address."""


class _Kaggle(BaseHTTPRequestHandler):
    archive: bytes

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/GetDataset"):
            self._answer(b'{"currentVersionNumber": 3}', "application/json")
        else:
            self._answer(self.archive, "application/zip")

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def test_the_real_kagglehub(tmp_path: Path) -> None:
    """Against a server that answers as Kaggle does, in a process of its own (kagglehub keeps its first stdout)."""
    if not any(one.name == "kagglehub" for one in metadata.distributions()):  # a stand-in of another test is none
        pytest.skip("kagglehub is not installed (extra `kaggle`)")
    _Kaggle.archive = packed(export(tmp_path / "export", 6), tmp_path / "export.zip").read_bytes()
    try:
        server = ThreadingHTTPServer(("localhost", KAGGLE_PORT), _Kaggle)
    except OSError:
        pytest.skip(f"port {KAGGLE_PORT} is taken, and kagglehub can be tested on no other")
    with server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        command = [sys.executable, "-m", "aiflow_cli", "download", "--source", "kaggle", "--limit", "6", "--json"]
        environment = os.environ | {
            "KAGGLE_API_ENVIRONMENT": "TEST",
            "KAGGLEHUB_CACHE": str(tmp_path / "cache"),
            "AIFLOW_DATA": str(tmp_path / "data"),
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["present"], document["kinds"]) == (6, {"416 x 416 export": 6})
