"""Whose work is done next, and whose never is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.decoding.actions import Extend
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.client import Job
from aiflow_cli.node.server import next_in_turn
from aiflow_cli.wire.messages import Cancel, Tokens
from aiflow_cli.wire.transport import Arrived
from tests.node.served import PATIENCE_S, Served, gated


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20, unique=True))
def test_what_has_waited_longest_is_next(since: list[int]) -> None:
    jobs = [Job(None, Extend(keep=0, tokens=(at,)), float(at)) for at in since]  # type: ignore[arg-type]
    order = []
    while jobs:
        chosen = next_in_turn(jobs)
        jobs.remove(chosen)
        order.append(chosen.since_s)
    assert order == sorted(since)


def test_the_work_of_a_cancelled_request_is_not_done(tiny_target: VisionLanguageModel) -> None:
    """Of what came while the server was at other work, and of what goes on."""
    model = gated(tiny_target)
    with Served(model) as served, served.connect() as one, served.connect() as other:
        one.send(served.request())
        assert model.begun.wait(PATIENCE_S)
        dropped = served.request()
        other.send(dropped)
        other.send(Cancel(dropped.request_id))
        kept = served.request()
        other.send(kept)
        model.may.set()
        answers = [other.receive(PATIENCE_S).message]
        assert isinstance(answers[0], Tokens)
        assert answers[0].request_id == kept.request_id
        assert model.asked == 2


def test_a_request_may_be_cancelled_while_its_work_is_done(tiny_target: VisionLanguageModel) -> None:
    """Its answer, which may be out by then, is known by its number; the next request has its own."""
    model = gated(tiny_target)
    with Served(model) as served, served.connect() as device:
        dropped = served.request()
        device.send(dropped)
        assert model.begun.wait(PATIENCE_S)
        device.send(Cancel(dropped.request_id))
        model.may.set()
        kept = served.request()
        device.send(kept)
        answers = [tokens(device.receive())]
        while not answers[-1].done:
            answers.append(tokens(device.receive()))
        of_kept = [answer.ids for answer in answers if answer.request_id == kept.request_id]
        assert of_kept == served.caption()
        assert len(answers) - len(of_kept) <= 1


def test_devices_take_turns(tiny_target: VisionLanguageModel) -> None:
    """Two that have asked at the same time: the long response is under way still when the short one is done."""
    model = gated(tiny_target)
    with Served(model) as served, served.connect() as long, served.connect() as short:
        long.send(served.request(max_new_tokens=300))
        assert model.begun.wait(PATIENCE_S)
        short.send(served.request(max_new_tokens=10))
        model.may.set()
        while not tokens(short.receive()).done:
            pass
        while come := [tokens(arrived) for arrived in long.poll()]:
            assert not come[-1].done
        while not tokens(long.receive()).done:
            pass


def tokens(arrived: Arrived) -> Tokens:
    assert isinstance(arrived.message, Tokens)
    return arrived.message
