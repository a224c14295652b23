"""Messages damaged at random, against a real server: an honest device is served in between as if nothing was."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from aiflow_cli.decoding.device import Task
from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import AiflowError
from aiflow_cli.link.address import Address, parse_address
from aiflow_cli.models.pair import find_pair
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.connection import Connection
from aiflow_cli.node.device import Device
from aiflow_cli.wire.messages import Picture
from aiflow_cli.world.recorder import Recorder
from tests.conftest import TinyPair, photograph
from tests.decoding.world import planned
from tests.e2e.tools import AIFLOW, wait_for
from tests.node.mutations import Mutator
from tests.node.served import Served, caption, last_words, request_for_caption, scripted

ANSWER_S = 20.0


def attack(address: Address, mutator: Mutator, n_messages: int) -> None:
    """Hold damaged conversations: some wait for the answer, some hang up."""
    sent = 0
    while sent < n_messages:
        frames = mutator.conversation()
        sent += len(frames)
        with socket.create_connection(address, ANSWER_S) as peer, suppress(ConnectionError):
            peer.sendall(b"".join(frames))
            if mutator.random.random() < 0.5:
                peer.shutdown(socket.SHUT_WR)
                last_words(peer)


def honest(address: Address, model: VisionLanguageModel) -> list[bytes]:
    with Connection(address) as device:
        device.greet(model.fingerprint)
        return caption(device, request_for_caption())


def test_three_hundred_damaged_messages(tiny_target: VisionLanguageModel) -> None:
    with Served(tiny_target) as served:
        expected = served.caption()
        attack(served.address, Mutator(1, tiny_target.fingerprint), 300)
        assert served.caption() == expected
        served.wait_until_clients(0)


@pytest.mark.parametrize("method", [Method.SERVER_ONLY, Method.SPECULATIVE, Method.CO_LOCATED])
def test_whatever_a_server_says_a_device_fails_in_one_line(method: Method, tiny_target: VisionLanguageModel) -> None:
    """It ends with its response or with an error that is reported as such, at once."""
    mutator, device = Mutator(3, tiny_target.fingerprint), Device(tiny_target)
    task = Task(1, method, 4, 12, find_pair("small").question, Picture(photograph()))
    failed = 0
    for _ in range(60):
        answers = b"".join(mutator.answers())
        with scripted(tiny_target, partial(say, answers)) as connection:
            try:
                device.respond(task, connection, Recorder(planned(method, 4)))
            except AiflowError:
                failed += 1
    assert failed > 0


def say(answers: bytes, peer: socket.socket) -> None:
    """Everything at once, when the request has come; then hang up."""
    peer.recv(65_536)
    peer.sendall(answers)
    peer.shutdown(socket.SHUT_WR)
    peer.settimeout(ANSWER_S)
    last_words(peer)


@contextmanager
def server_process(pair: TinyPair, log: Path) -> Iterator[tuple[Address, psutil.Process]]:
    """`aiflow serve`, its standard error in a file: a pipe that no one reads would fill."""
    command = [*AIFLOW, "serve", *pair.options, "--with-draft", "--listen", "127.0.0.1:0"]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            yield parse_address(json.loads(process.stdout.readline())["listening"]), psutil.Process(process.pid)
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_damaged_messages(tiny_pair: TinyPair, tiny_target: VisionLanguageModel, tmp_path: Path) -> None:
    """In between and after, an honest device has its caption; memory and connections do not grow."""
    log = tmp_path / "log"
    with server_process(tiny_pair, log) as (address, server):
        mutator = Mutator(2, tiny_target.fingerprint)
        expected = honest(address, tiny_target)
        n_fds = server.num_fds()
        attack(address, mutator, 3000)  # by then the spare caches are as large as requests can make them
        settled_bytes = server.memory_info().rss
        for _ in range(35):
            attack(address, mutator, 200)
            assert honest(address, tiny_target) == expected
        wait_for(lambda: server.num_fds() <= n_fds, "the last connections to be closed")
        assert server.memory_info().rss - settled_bytes < 100_000_000
    assert "Traceback" not in log.read_text()
