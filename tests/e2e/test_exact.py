"""The bound crosses the link with the request, and what deciding again cost comes back with every round."""

from __future__ import annotations

from collections.abc import Callable

from aiflow_cli.decoding.device import Task
from aiflow_cli.decoding.exact import DEFAULT_BOUND
from aiflow_cli.decoding.methods import Method
from aiflow_cli.link.address import parse_address
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.connection import Connection
from aiflow_cli.node.device import Device
from aiflow_cli.node.response import Response
from tests.conftest import photograph
from tests.e2e.tools import Background
from tests.models import fixtures

pytestmark = fixtures.needed

UNLIMITED = LinkSpec(float("inf"), float("inf"))


def test_bfloat16_server_gives_server_onlys_output(background: Callable[..., Background]) -> None:
    folder = fixtures.ROOT / "tiny-2b"
    options = ("--target", folder, "--draft", folder, "--with-draft", "--dtype", "bfloat16")
    address = parse_address(background("serve", *options, "--listen", "127.0.0.1:0").listening())
    device = Device(VisionLanguageModel.from_folder(folder))
    with Connection(address) as connection:
        connection.greet(device.model.fingerprint)

        def respond(method: Method, gamma: int, seed: int) -> Response:
            task = Task(seed, method, gamma, 30, "What is it?", photograph(seed, 80), DEFAULT_BOUND["bfloat16"])
            return device.respond(task, connection, UNLIMITED)

        rounds = []
        for seed in range(3):
            expected = respond(Method.SERVER_ONLY, 0, seed)
            for method in (Method.SPECULATIVE, Method.CO_LOCATED):
                response = respond(method, 6, seed)
                assert response.tokens == expected.tokens
                rounds += response.rounds
    again = [known for known in rounds if known.redecide_steps]
    assert 0 < len(again) < len(rounds)
    assert all(0 < known.redecide_s < known.verify_s for known in again)
    assert all(known.redecide_s == 0 for known in rounds if not known.redecide_steps)
