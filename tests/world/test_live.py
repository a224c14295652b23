"""The live world: which servers it starts, and that all pairs over one of them get what they ask for."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from aiflow_cli.decoding.methods import Method
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.models.pair import PairSpec, find_pair
from aiflow_cli.world.conditions import Conditions
from aiflow_cli.world.live import LiveWorld, link_options
from aiflow_cli.world.record import Link, Setting
from tests.conftest import TinyPair, photograph
from tests.world.trials import trial

UNLIMITED = Link(uplink_bytes_per_s=None, downlink_bytes_per_s=None, burst_bytes=10_000, delay_s=0.0)


@pytest.fixture(scope="module")
def pairs(tiny_pair: TinyPair, tmp_path_factory: pytest.TempPathFactory) -> dict[str, PairSpec]:
    """Two pairs over one target, each with a draft of its own."""
    other = Path(shutil.copytree(tiny_pair.draft, tmp_path_factory.mktemp("other") / "draft"))
    one = find_pair("small", str(tiny_pair.draft), str(tiny_pair.target))
    return {"small": one, "small-weak": replace(one, name="small-weak", draft=str(other))}


def setting(pair: str, method: Method) -> Setting:
    gamma = None if method is Method.SERVER_ONLY else 3
    return Setting(pair=pair, method=method, gamma=gamma, link=UNLIMITED)


def servers() -> int:
    """Servers that are children of this process; another test's child may have ended and not be waited for."""
    children = psutil.Process().children()
    return sum("serve" in c.cmdline() for c in children if c.status() != psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize(
    ("first", "second", "started"),
    [
        (Method.SPECULATIVE, Method.CO_LOCATED, 1),
        pytest.param(Method.SPECULATIVE, Method.SPECULATIVE, 1, marks=pytest.mark.slow),
        pytest.param(Method.CO_LOCATED, Method.CO_LOCATED, 2, marks=pytest.mark.slow),
    ],
)
def test_pairs_over_one_target_share_its_server_unless_each_has_a_draft_there(
    first: Method, second: Method, started: int, pairs: dict[str, PairSpec]
) -> None:
    settings = [setting(pair, Method.SERVER_ONLY) for pair in pairs]
    settings += [setting("small", first), setting("small-weak", second)]
    conditions = Conditions(max_new_tokens=8, prompt="a red bus")
    with LiveWorld(pairs, settings, conditions) as world:
        assert servers() == started
        made = [world.trial(trial(setting=one, started_at=""), photograph()) for one in settings]
        assert world.served["small"].target_sha256 == world.served["small-weak"].target_sha256
    assert servers() == 0
    assert len({one.tokens for one in made}) == 1
    assert [bool(one.rounds) for one in made] == [False, False, True, True]
    assert all(one.started_at and one.caption for one in made)


def test_where_the_target_runs_is_where_the_draft_does_unless_it_is_told() -> None:
    pair = find_pair("internvl2-2b-26b")
    there = Conditions(server_device="cuda")
    assert (Conditions().target_device, there.target_device) == ("cpu", "cuda")
    assert (Conditions().on_gpu, there.on_gpu) == (False, True)
    assert (there.dtype_of(pair, there.device), there.dtype_of(pair, there.target_device)) == ("float32", "bfloat16")


def test_a_link_as_the_relay_is_told_of_it() -> None:
    assert link_options(LinkSpec(5e5, float("inf"), 1000, 0.02)) == [
        *("--uplink", "500000.000000B/s", "--downlink", "unlimited"),
        *("--burst", "1000B", "--delay", "0.020000000s"),
    ]
