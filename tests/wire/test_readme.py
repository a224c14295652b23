"""The protocol's own page says what the code does: every message, every field, and who speaks when."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import msgspec
import pytest

from aiflow_cli.decoding.methods import Method
from aiflow_cli.wire import messages
from tests.decoding.models import Behaviour
from tests.decoding.strategies import gamma_of
from tests.decoding.world import World, respond

README = (Path(messages.__file__).parent / "README.md").read_text()
KINDS = {kind.__name__: kind for kind in typing.get_args(messages.Message)}
FROM_DEVICE = {"Hello", "Request", "Draft", "Cancel"}


def test_every_message_has_its_row() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (\w+) \| ([^|]+) \|", README, re.MULTILINE)
    told = {name: (int(tag), sender, fields.strip().split(", ")) for tag, name, sender, fields in rows}
    known = {
        name: (
            kind.__struct_config__.tag,
            "device" if name in FROM_DEVICE else "server",
            [field.name for field in msgspec.structs.fields(kind)],
        )
        for name, kind in KINDS.items()
    }
    assert told == known


def test_version_and_parts() -> None:
    assert f"The version is {messages.PROTOCOL_VERSION};" in README
    fields = ", ".join(field.name for field in msgspec.structs.fields(messages.Verification))
    assert f"`verification` is {fields}." in README.replace("\n", " ")


def diagram() -> list[tuple[str, str]]:
    """Who sends what, in the order of the diagram; and `loop` with its method."""
    block = README.partition("```mermaid")[2].partition("```")[0]
    sent = re.findall(r"^ *(Device|Server)->>(?:Device|Server): (\w+)|^ *loop ([\w-]+):", block, re.MULTILINE)
    return [("loop" if loop else sender, loop or kind) for sender, kind, loop in sent]


def test_every_message_is_in_the_diagram_and_goes_its_way() -> None:
    told = {(sender, kind) for sender, kind in diagram() if sender != "loop"}
    assert told == {("Device" if name in FROM_DEVICE else "Server", name) for name in KINDS}


@pytest.mark.parametrize("method", [method for method in Method if method is not Method.ON_DEVICE])
def test_the_diagram_is_what_sessions_say(method: Method) -> None:
    steps = diagram()
    start = [kind for _, kind in steps[steps.index(("Device", "Request")) : steps.index(("loop", "server-only"))]]
    begin = steps.index(("loop", method.value)) + 1
    following = [at for at, (sender, _) in enumerate(steps) if at >= begin and sender == "loop"]
    end = following[0] if following else steps.index(("Device", "Cancel"))
    loop = [kind for _, kind in steps[begin:end]]
    world = World(Behaviour(seed=3, vocab_size=50, stop_ids=frozenset(), stop_share=0.0, agreement=0.5))
    respond(world, method, gamma_of(method, 3), 12)
    rounds = (len(world.messages) - len(start)) // len(loop)
    assert rounds > 1
    assert world.kinds() == start + loop * rounds
