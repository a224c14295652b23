"""The bound crosses the link with the request, and what deciding again cost comes back with every round."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from aiflow_cli.decoding.device import Task
from aiflow_cli.decoding.exact import DEFAULT_BOUND
from aiflow_cli.decoding.methods import Method
from aiflow_cli.link.address import parse_address
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.connection import Connection
from aiflow_cli.node.device import Device
from aiflow_cli.wire.messages import Picture
from aiflow_cli.world.record import Round, Trial
from aiflow_cli.world.recorder import Recorder
from tests.conftest import TinyPair, photograph
from tests.decoding.world import planned
from tests.e2e.tools import Background, aiflow, one_line
from tests.models import fixtures


@fixtures.needed
def test_bfloat16_server_gives_server_onlys_output(background: Callable[..., Background]) -> None:
    folder = fixtures.ROOT / "tiny-2b"
    options = ("--target", folder, "--draft", folder, "--with-draft", "--dtype", "bfloat16")
    address = parse_address(background("serve", *options, "--listen", "127.0.0.1:0").listening())
    device, numbers = Device(VisionLanguageModel.from_folder(folder)), itertools.count()
    with Connection(address) as connection:
        connection.greet(device.model.fingerprint)

        def respond(method: Method, gamma: int, seed: int) -> Trial:
            picture, recorder = Picture(photograph(seed, 80)), Recorder(planned(method, gamma))
            task = Task(next(numbers), method, gamma, 30, "What is it?", picture, DEFAULT_BOUND["bfloat16"])
            device.respond(task, connection, recorder)
            return recorder.trial("")

        rounds: list[Round] = []
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


@fixtures.needed
def test_run_tells_what_exactness_cost(photographs: Path, tmp_path: Path) -> None:
    """Identical in bfloat16, and counted, in the document and for people."""
    folder = fixtures.ROOT / "tiny-2b"
    options = ("--target", folder, "--draft", folder, "--dtype", "bfloat16", "--data", photographs)
    more = ("--max-new-tokens", "30", "--rate", "unlimited", "--exact")
    finished = aiflow("run", *options, *more, "--json", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    assert [method["identical"] for method in document["groups"][0]["methods"]] == [None, 3]
    (told,) = document["exact"]
    assert (told["method"], told["gamma"]) == ("speculative", 4)
    assert 0 < told["decided_again"] <= told["steps"]
    assert 0 < told["redecide_s"] < told["verify_s"]
    assert f"exact: speculative gamma 4 decided again in {told['decided_again']} of" in finished.stderr


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")
def test_run_with_quantised_models(tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    options = (
        *tiny_pair.options,
        "--data",
        photographs,
        "--images",
        "2",
        "--max-new-tokens",
        "12",
        "--rate",
        "unlimited",
    )
    finished = aiflow("run", *options, "--quantize", "int8", "--json", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    assert [method["identical"] for method in document["groups"][0]["methods"]] == [None, 2]
    assert document["spec"]["quantize"] == "int8"
    plain = json.loads(aiflow("run", *options, "--json", cwd=tmp_path).stdout)
    assert plain["images"] != document["images"]


def test_quantisation_that_is_none(tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    finished = aiflow("run", *tiny_pair.options, "--data", photographs, "--quantize", "int2", cwd=tmp_path)
    assert finished.returncode == 2
    assert "int8" in one_line(finished)


def test_dry_run_loads_nothing(tmp_path: Path) -> None:
    finished = aiflow("run", "--pair", "internvl2-2b-26b", "--dry-run", "--json", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["target"]["parameters"] == 25_514_186_112
    assert not list(tmp_path.iterdir())
