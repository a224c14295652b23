"""A real server on a thread of this process, with a real model behind a real socket, and devices to talk to it."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

import torch

from aiflow_cli.link.address import bound_address
from aiflow_cli.models.pair import find_pair
from aiflow_cli.models.prompt import Prompt
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.client import Timeouts
from aiflow_cli.node.connection import Connection
from aiflow_cli.node.server import Server
from aiflow_cli.wire.framing import encode
from aiflow_cli.wire.messages import (
    PROTOCOL_VERSION,
    Fingerprint,
    Hello,
    Message,
    Picture,
    Refused,
    Request,
    Tokens,
    Welcome,
)
from aiflow_cli.wire.transport import Arrived
from tests.conftest import photograph
from tests.e2e.tools import wait_for
from tests.wire.strategies import SERVED

PATIENCE_S = 60.0
_ids = itertools.count(1)


class Served:
    """A server that runs while the `with` block does; leaving it fails if the server's loop has raised."""

    def __init__(self, model: VisionLanguageModel, timeouts: Timeouts | None = None) -> None:
        self.model = model
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = bound_address(listener)
        self.server = Server(listener, model, SERVED, timeouts=timeouts)
        self._stop = threading.Event()
        self._raised: BaseException | None = None
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        torch.set_num_threads(1)  # as `aiflow serve` does
        try:
            self.server.serve(self._stop.is_set)
        except BaseException as error:
            self._raised = error
        finally:
            self.server.close()

    @property
    def n_clients(self) -> int:
        return len(self.server._clients)

    @property
    def hello(self) -> bytes:
        return encode(Hello(PROTOCOL_VERSION, self.model.fingerprint))

    def request(self, method: str = "server-only", max_new_tokens: int = 6, prompt: str | None = None) -> Request:
        return request_for_caption(method, max_new_tokens, prompt)

    def connect(self) -> Connection:
        connection = Connection(self.address)
        connection.greet(self.model.fingerprint)
        return connection

    def caption(self) -> list[bytes]:
        """A whole response to an honest device: proves that the server still serves."""
        with self.connect() as connection:
            return caption(connection, self.request())

    def stranger(self, greeted: bool = True) -> socket.socket:
        """A bare connection, which has said hello and read its welcome if it is `greeted`."""
        peer = socket.create_connection(self.address, PATIENCE_S)
        if greeted:
            peer.sendall(self.hello)
            assert peer.recv(65_536)
        return peer

    def wait_until_clients(self, number: int) -> None:
        wait_for(lambda: self.n_clients == number, f"{number} clients, not {self.n_clients}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the server hangs"
        if self._raised is not None:
            raise self._raised


class Gated(VisionLanguageModel):
    """A model whose prefills are counted and wait until they may go on."""

    asked = 0
    may: threading.Event
    begun: threading.Event

    def prepare(self, image: bytes, question: str) -> Prompt:
        self.asked += 1
        self.begun.set()
        assert self.may.wait(PATIENCE_S)
        return super().prepare(image, question)


def gated(model: VisionLanguageModel) -> Gated:
    found = Gated(model.name, model.model, model.tokenizer, model.original)
    found.may, found.begun = threading.Event(), threading.Event()
    return found


def welcome(fingerprint: Fingerprint) -> Welcome:
    return Welcome(PROTOCOL_VERSION, fingerprint, SERVED)


@contextmanager
def scripted(model: VisionLanguageModel, script: Callable[[socket.socket], None]) -> Iterator[Connection]:
    """A connection to a server that greets and then does what the script says."""

    def serve() -> None:
        peer, _ = listener.accept()
        with peer, suppress(OSError):
            peer.recv(65_536)
            peer.sendall(encode(welcome(model.fingerprint)))
            script(peer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        with Connection(bound_address(listener)) as connection:
            connection.greet(model.fingerprint)
            yield connection
        thread.join(30)


def request_for_caption(method: str = "server-only", max_new_tokens: int = 6, prompt: str | None = None) -> Request:
    """A request of its own id, since ids count upward on a connection."""
    question = prompt or find_pair("small").question
    return Request(next(_ids), method, 4, max_new_tokens, question, Picture(photograph()))


def caption(connection: Connection, request: Message) -> list[bytes]:
    """What the server answers to one request, until it is done."""
    connection.send(request)
    answers: list[bytes] = []
    while True:
        message = connection.receive(PATIENCE_S).message
        assert isinstance(message, Tokens), message
        answers.append(message.ids)
        if message.done:
            return answers


def reason_of(read: Callable[[], Arrived]) -> str:
    """Why the server refuses, which has to be what it says next."""
    message = read().message
    assert isinstance(message, Refused), message
    return message.reason


def last_words(peer: socket.socket) -> bytes:
    """All that comes until the end of the stream."""
    return b"".join(iter(lambda: peer.recv(65_536), b""))
