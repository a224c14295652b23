"""Whatever one device's bytes break, the others are served."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
import psutil
import pytest
import torch

from aiflow_cli.link.address import parse_address
from aiflow_cli.models.prompt import Prompt
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.connection import Connection
from aiflow_cli.node.server import MAX_CLIENTS, MAX_HELD_BYTES
from aiflow_cli.wire.framing import encode
from aiflow_cli.wire.messages import MAX_IMAGE_BYTES, Cancel, Picture, Refused, Tokens
from tests.conftest import TinyPair
from tests.e2e.tools import Background, wait_for
from tests.node.served import Served, caption, last_words, reason_of, request_for_caption

FAULTS: dict[str, BaseException] = {
    "attribute": AttributeError("'SpiderImageFile' object has no attribute 'stkoffset'"),
    "key": KeyError("rope"),
    "index": IndexError("list index out of range"),
    "struct": struct.error("unpack requires a buffer of 4 bytes"),
    "division": ZeroDivisionError("division by zero"),
    "assertion": AssertionError(),
    "end of file": EOFError("no more"),
    "system": OSError(5, "Input/output error"),
    "recursion": RecursionError("maximum recursion depth exceeded"),
    "memory": MemoryError(),
    "accelerator": torch.OutOfMemoryError("CUDA out of memory"),
    "stop": StopIteration(),
    "not text": ValueError("caption-\udcff.jpg"),
    "long": ValueError("x" * 100_000),
}
SPIDER = struct.pack(
    ">27f", *(1.0 if n in (1, 2, 5, 12, 13, 27) else 108.0 if n in (22, 23) else 0.0 for n in range(1, 28))
)
"""An image of 108 bytes, in a format of electron microscopes, over which the imaging library stumbles."""
TIFF = b"II*\0\x08\0\0\0" + b"\xff" * 200


class Fragile(VisionLanguageModel):
    """A model that raises what the prompt names."""

    def prepare(self, image: bytes, question: str) -> Prompt:
        if question in FAULTS:
            raise FAULTS[question].with_traceback(None)
        return super().prepare(image, question)


@pytest.fixture(scope="module")
def fragile(tiny_target: VisionLanguageModel) -> VisionLanguageModel:
    model = tiny_target
    return Fragile(model.name, model.model, model.tokenizer, model.original)


def test_whatever_a_device_s_work_raises_ends_that_device_alone(fragile: VisionLanguageModel) -> None:
    with Served(fragile) as served, served.connect() as honest:
        expected = caption(honest, served.request())
        for name, fault in FAULTS.items():
            with served.connect() as peer:
                peer.send(served.request(prompt=name))
                reason = reason_of(peer.receive)
                assert type(fault).__name__ in reason
                assert "see its standard error" in reason or name == "long"
            assert caption(honest, served.request()) == expected
        assert served.caption() == expected
        served.wait_until_clients(1)


def test_a_response_that_is_under_way_goes_on(fragile: VisionLanguageModel) -> None:
    with Served(fragile) as served, served.connect() as honest, served.connect() as peer:
        honest.send(served.request(max_new_tokens=200))
        answers = [honest.receive().message]
        peer.send(served.request(prompt="recursion"))
        assert "RecursionError" in reason_of(peer.receive)
        while not isinstance(answers[-1], Tokens) or not answers[-1].done:
            answers.append(honest.receive().message)
        assert not [answer for answer in answers if isinstance(answer, Refused)]


@pytest.mark.parametrize("image", [SPIDER, TIFF], ids=["spider", "tiff"])
def test_a_picture_that_the_imaging_library_stumbles_over(image: bytes, tiny_target: VisionLanguageModel) -> None:
    with Served(tiny_target) as served:
        with served.connect() as peer:
            peer.send(msgspec.structs.replace(served.request(), input=Picture(image)))
            assert reason_of(peer.receive)
        assert served.caption()


def test_a_log_that_takes_nothing_stops_no_server(
    fragile: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115
    monkeypatch.setattr(sys, "stderr", full)
    with Served(fragile) as served:
        with served.connect() as peer:
            peer.send(served.request(prompt="key"))
            assert "KeyError" in reason_of(peer.receive)
        assert served.caption()
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space"):
        full.close()


def test_large_messages_of_all_devices_have_one_bound(tiny_target: VisionLanguageModel) -> None:
    """Each may be the largest that there is, together they are not kept: the one that holds the most goes."""
    announced = (MAX_IMAGE_BYTES + 1000).to_bytes(4, "big")
    with Served(tiny_target) as served, served.connect() as honest, ExitStack() as stack:
        peers = [stack.enter_context(served.stranger()) for _ in range(MAX_HELD_BYTES // MAX_IMAGE_BYTES + 2)]
        for peer in peers:
            peer.sendall(announced + bytes(MAX_IMAGE_BYTES - 1000))
        words = last_words(peers[0])
        assert b"too many large messages at once" in words
        assert_nothing_is_held(served)
        assert caption(honest, served.request())


def test_a_picture_that_was_refused_is_not_held_until_its_device_leaves(tiny_target: VisionLanguageModel) -> None:
    with Served(tiny_target) as served, served.connect() as peer:
        peer.send(msgspec.structs.replace(served.request(), input=Picture(bytes(1_000_000))))
        assert reason_of(peer.receive)
        assert_nothing_is_held(served)


def assert_nothing_is_held(served: Served) -> None:
    leaving = list(wait_for(lambda: served.server._leaving, "a device that was refused"))
    assert not any(client.session.busy for client in leaving)
    assert sum(client.held_bytes for client in leaving) == 0


def test_more_devices_than_there_are_places_are_told(tiny_target: VisionLanguageModel) -> None:
    with Served(tiny_target) as served, ExitStack() as stack:
        for _ in range(MAX_CLIENTS):
            stack.enter_context(served.stranger())
        with Connection(served.address) as late:
            late.send(served.request())
            assert f"{MAX_CLIENTS} devices already" in reason_of(late.receive)
        stack.close()
        served.wait_until_clients(0)
        assert served.caption()


FLOOD = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as peer:
    peer.sendall(bytes.fromhex(sys.argv[2]))
    peer.recv(65536)
    print("flooding", flush=True)
    while True:
        peer.sendall(bytes.fromhex(sys.argv[3]) * 100_000)
"""


def test_a_flood_of_small_messages_takes_turns(tiny_target: VisionLanguageModel) -> None:
    """Tens of thousands fit the kernel's buffer: they are not all handled between two steps of another's response."""
    with Served(tiny_target) as served, served.connect() as honest:
        quiet_s = min(response_s(served, honest) for _ in range(3))
        request = served.request(max_new_tokens=1)
        stale = encode(Cancel(request.request_id - 1))
        begun = served.hello + encode(request)
        flood = [sys.executable, "-c", FLOOD, str(served.address.port), begun.hex(), stale.hex()]
        with subprocess.Popen(flood, stdout=subprocess.PIPE, text=True) as flooder:
            assert flooder.stdout is not None
            assert flooder.stdout.readline() == "flooding\n"
            flooded_s = min(response_s(served, honest) for _ in range(3))
            flooder.kill()
    assert flooded_s < 15 * quiet_s + 3


def response_s(served: Served, device: Connection) -> float:
    began_s = time.monotonic()
    assert caption(device, served.request(max_new_tokens=60))
    return time.monotonic() - began_s


def test_a_server_without_descriptors_waits_for_some(tiny_pair: TinyPair, tiny_target: VisionLanguageModel) -> None:
    """Newcomers wait, at no cost, and come in when there is room; those that are there are served."""
    command = Background("serve", *tiny_pair.options, "--listen", "127.0.0.1:0")
    try:
        address = parse_address(command.listening())
        server = psutil.Process(command.process.pid)
        with Connection(address) as honest:
            honest.greet(tiny_target.fingerprint)
            expected = caption(honest, request_for_caption())  # the imaging library opens files of its own at first
            limits = server.rlimit(psutil.RLIMIT_NOFILE)
            server.rlimit(psutil.RLIMIT_NOFILE, (server.num_fds(), limits[1]))
            with Connection(address) as late:
                before, began_s = server.cpu_times(), time.monotonic()
                time.sleep(2)
                after, ended_s = server.cpu_times(), time.monotonic()
                assert after.user + after.system - before.user - before.system < (ended_s - began_s) / 5
                assert caption(honest, request_for_caption()) == expected
                server.rlimit(psutil.RLIMIT_NOFILE, limits)
                late.greet(tiny_target.fingerprint)
                assert caption(late, request_for_caption()) == expected
    finally:
        command.process.kill()
        command.process.communicate()
