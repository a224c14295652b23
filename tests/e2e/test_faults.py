"""Bad input and faults of the peer: one clear line, an exit code, no orphan, finished trials kept, the server serves
on.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from aiflow_cli.link.address import parse_address
from aiflow_cli.models.pair import find_pair
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.connection import Connection
from aiflow_cli.trials.store import read_run
from aiflow_cli.wire.framing import encode
from aiflow_cli.wire.messages import PROTOCOL_VERSION, Draft, Hello, Picture, Request, Tokens, pack_ids
from tests.conftest import TinyPair, photograph
from tests.e2e.tools import (
    PATIENCE_S,
    Background,
    aiflow,
    assert_gone,
    descendants,
    files_limited_to,
    finished_trials,
    one_line,
    wait_for,
)

Start = Callable[..., Background]

WRONG_USE = {
    "gamma 0": (("-g", "0"), "--gamma 0: give 1 or more"),
    "gamma 1000": (("-g", "1000"), "--gamma 1000: give 64 or less"),
    "method": (("-m", "speculativ"), "speculative"),
    "unit": (("--rate", "1MiB/s"), "1MB/s"),
    "rate of nothing": (("--rate", "0MB/s"), "more than 0"),
    "delay": (("--delay", "10"), "20ms"),
    "pair": (("--pair", "smal"), "small"),
    "folder": (("--data", "/nowhere/at/all"), "folder"),
    "images": (("--images", "0"), "images"),
    "target": (("--target", "/nowhere/at/all"), "/nowhere/at/all"),
    "device": (("--device", "cuda"), "cpu"),
    "server": (("--server", "nonsense"), "HOST:PORT"),
}


@pytest.mark.parametrize(("options", "hint"), WRONG_USE.values(), ids=WRONG_USE)
def test_wrong_use_is_one_line_and_exit_2(
    options: tuple[str, ...], hint: str, tiny_pair: TinyPair, photographs: Path, tmp_path: Path
) -> None:
    defaults = {"--data": str(photographs), "--target": str(tiny_pair.target), "--draft": str(tiny_pair.draft)}
    given = [part for name, value in defaults.items() if name not in options for part in (name, value)]
    finished = aiflow("run", *given, *options, cwd=tmp_path)
    assert finished.returncode == 2, finished.stderr
    assert hint in one_line(finished)
    assert finished.stdout == ""


def test_bad_image_stops_before_anything_starts(tiny_pair: TinyPair, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "whole.jpg").write_bytes(photograph())
    (folder / "torn.jpg").write_bytes(photograph()[:900])
    finished = aiflow("run", *tiny_pair.options, "--data", folder, cwd=tmp_path)
    assert finished.returncode == 1
    assert "torn.jpg" in one_line(finished)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("role", ["target", "draft"])
def test_damaged_checkpoint_is_named(role: str, tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    """The target is loaded in the server process: its error line is the command's."""
    folders = {"target": tiny_pair.target, "draft": tiny_pair.draft}
    broken = tmp_path / role
    shutil.copytree(folders[role], broken)
    weights = load_file(broken / "model.safetensors")
    lost = next(name for name in weights if "wqkv" in name)
    save_file({n: w for n, w in weights.items() if n != lost}, broken / "model.safetensors", {"format": "pt"})
    folders[role] = broken
    finished = aiflow(
        "run", "--target", folders["target"], "--draft", folders["draft"], "--data", photographs, cwd=tmp_path
    )
    assert finished.returncode == 1
    assert "lacks tensors" in one_line(finished)


def test_draft_of_another_vocabulary_is_refused(tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    finished = aiflow(
        "run", "--target", tiny_pair.target, "--draft", tiny_pair.stranger, "--data", photographs, cwd=tmp_path
    )
    assert finished.returncode == 1
    assert "no pair" in one_line(finished)


def test_taken_port(tiny_pair: TinyPair, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        finished = aiflow("serve", *tiny_pair.options, "--listen", address, cwd=tmp_path)
    assert finished.returncode == 1
    assert address in one_line(finished)


def test_full_disk_keeps_finished_trials(tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "result"
    options = (*tiny_pair.options, "--data", photographs, "--repeats", "100", "--output", folder)
    with files_limited_to(60_000):
        finished = aiflow("run", *options, cwd=tmp_path)
    assert finished.returncode == 1
    assert "space" in one_line(finished)
    trials = finished_trials(folder)
    assert len(trials) > 2
    assert all(trial["tokens"] for trial in trials)


@pytest.mark.parametrize(("command_name", "name"), [("serve", "server"), ("link", "link")])
def test_child_killed_while_it_works(
    command_name: str, name: str, tiny_pair: TinyPair, photographs: Path, tmp_path: Path, background: Start
) -> None:
    """The trial under way is told to have failed, and all others are made by processes that are started anew; the same
    command makes the one that is lacking.
    """
    folder = tmp_path / "result"
    options = (*tiny_pair.options, "--data", photographs, "--repeats", "10", "--output", folder)
    command = background("run", *options, cwd=tmp_path)
    wait_for(lambda: len(finished_trials(folder)) > 6, "the first trials")
    children = descendants(command.process.pid)
    link = next(child.cmdline() for child in children if "link" in child.cmdline())
    server = link[link.index("--to") + 1]
    next(child for child in children if command_name in child.cmdline()).kill()
    code, errors = command.end(PATIENCE_S * 3)
    assert code == 1
    (failed,) = [line for line in errors.splitlines() if line.startswith("failed: ")]
    assert re.search(rf"server at {server} went away \(.*\): the {name} was ended by SIGKILL", failed)
    (error,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert error == f"error: 1 of 60 trials failed, the others are in {folder}: the same command tries them again"
    assert_gone(children)
    (told,) = read_run(folder)["failed"]
    assert told["trial"] in failed
    assert sum(not trial["warmup"] for trial in finished_trials(folder)) == 59
    again = aiflow("run", *options, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert read_run(folder)["failed"] == []
    assert told["trial"] in {trial["trial"] for trial in finished_trials(folder)}


class _Served:
    """A running server, and what a device needs to talk to it."""

    def __init__(self, tiny_pair: TinyPair, background: Start) -> None:
        self.command = background("serve", *tiny_pair.options, "--listen", "127.0.0.1:0")
        self.address = parse_address(self.command.listening())
        self.model = VisionLanguageModel.from_folder(tiny_pair.draft)

    def request(self, max_new_tokens: int = 6, method: str = "server-only") -> Request:
        return Request(1, method, 4, max_new_tokens, find_pair("small").question, Picture(photograph()))

    def connect(self) -> Connection:
        connection = Connection(self.address)
        connection.greet(self.model.fingerprint)
        return connection

    def caption(self) -> list[bytes]:
        """A whole response: proves that the server still serves."""
        answers = []
        with self.connect() as connection:
            connection.send(self.request())
            while True:
                message = connection.receive(30).message
                assert isinstance(message, Tokens)
                answers.append(message.ids)
                if message.done:
                    return answers


def test_what_peers_can_do_to_a_server(tiny_pair: TinyPair, background: Start) -> None:
    """Garbage, a 4 GB length, half a message, an unknown token, a message out of turn, and a device that dies
    mid-round.
    """
    served = _Served(tiny_pair, background)
    expected = served.caption()
    hello = encode_hello(served)
    for name, data in {
        "garbage": b"GET / HTTP/1.1\r\n\r\n" * 20,
        "4 GB": b"\xff\xff\xff\xff",
        "an empty message": b"\0\0\0\0",
        "out of turn": hello + encode(Draft(1, 0, 1, pack_ids([5]))),
        "twice hello": hello + hello,
        "a bad image": hello + encode(Request(1, "server-only", 0, 5, "?", Picture(b"no image"))),
        "an unknown method": hello + encode(served.request(method="telepathy")),
    }.items():
        with socket.create_connection(served.address, 10) as peer:
            peer.sendall(data)
            answer = b"".join(iter(lambda peer=peer: peer.recv(65_536), b""))  # type: ignore[misc]
        assert answer, name  # a refusal with its reason, then the end
    with socket.create_connection(served.address, 10) as half:
        half.sendall(hello + encode(served.request())[:50])
        assert served.caption() == expected  # served while the other is stuck in its message
    with served.connect() as dying:
        dying.send(served.request(40, "speculative"))
        assert isinstance(dying.receive(30).message, Tokens)
        dying.send(Draft(1, 0, 1, pack_ids([5, 6, 7])))
    assert served.caption() == expected
    with served.connect() as liar:
        liar.send(served.request(40, "speculative"))
        liar.receive(30)
        liar.send(Draft(1, 0, 1, pack_ids([16_000_000])))
        assert "vocabulary" in str(getattr(liar.receive(30).message, "reason", ""))
    assert served.caption() == expected
    code, errors = served.command.signal(signal.SIGTERM)
    assert code == 0
    assert "Traceback" not in errors


def encode_hello(served: _Served) -> bytes:
    return encode(Hello(PROTOCOL_VERSION, served.model.fingerprint))


def test_device_that_is_not_aiflow_or_of_another_version(tiny_pair: TinyPair, background: Start) -> None:
    served = _Served(tiny_pair, background)
    for message in (
        Hello(99, served.model.fingerprint),
        Hello(PROTOCOL_VERSION, VisionLanguageModel.from_folder(tiny_pair.stranger).fingerprint),
    ):
        with Connection(served.address) as connection:
            connection.send(message)
            reason = str(getattr(connection.receive(30).message, "reason", ""))
        assert "protocol 99" in reason or "no pair" in reason


def test_a_link_to_nowhere(tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for rate in ("unlimited", "1MB/s"):
        finished = aiflow(
            "run", *tiny_pair.options, "--data", photographs, "--server", address, "--rate", rate, cwd=tmp_path
        )
        assert finished.returncode == 1
        assert f"no server at {address} (connection refused): start one with `aiflow serve`" in one_line(finished)
