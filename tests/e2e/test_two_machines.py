"""A server elsewhere: the device needs nothing of the target, and the result records what the server says that it
runs.

Device and server are processes of one machine here; that the target is on the other machine alone is a path that does
not exist.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aiflow_cli
from aiflow_cli.errors import LinkError, UsageError
from aiflow_cli.images.source import open_images
from aiflow_cli.link.address import Address
from aiflow_cli.models.pair import find_pair
from aiflow_cli.trials import fingerprint
from aiflow_cli.trials.experiment import earlier_trials, open_experiment
from aiflow_cli.trials.plan import plan_experiment
from aiflow_cli.trials.run import run_experiment
from aiflow_cli.trials.schedule import schedule
from aiflow_cli.trials.served import check_served, describe_here
from aiflow_cli.trials.specfile import spec_of_options
from aiflow_cli.trials.store import read_run, read_trials, rewrite_trials
from aiflow_cli.wire.framing import decode, encode
from aiflow_cli.wire.messages import Fingerprint, Welcome
from aiflow_cli.world.live import LiveWorld
from tests.conftest import TinyPair
from tests.e2e.tools import Background, aiflow, finished_trials
from tests.trials.sweeps import read_spec

ABSENT = "/nowhere/target"
"""The name of the target that is served, in a folder that is not on the device's machine."""


@pytest.fixture(scope="module")
def server(tiny_pair: TinyPair) -> Iterator[str]:
    command = Background("serve", *tiny_pair.options, "--with-draft", "--listen", "127.0.0.1:0")
    yield command.listening()
    command.signal(signal.SIGTERM)


def test_a_device_without_the_target(server: str, tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    options = ("--target", ABSENT, "--draft", tiny_pair.draft, "--data", photographs, "--images", 2)
    more = ("-m", "co-located", "--server", server, "--max-new-tokens", 6, "-o", tmp_path / "result")
    finished = aiflow("run", *options, *more, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    (pair,) = read_run(tmp_path / "result")["pairs"]
    assert pair["target"] == "target"
    assert pair["fingerprint"] == fingerprint.pair(find_pair("small", str(tiny_pair.draft), str(tiny_pair.target)))
    told = pair["server"]
    assert told["target_sha256"] == fingerprint.checkpoint(tiny_pair.target)
    assert told["draft_sha256"] == fingerprint.checkpoint(tiny_pair.draft)
    assert (told["dtype"], told["quantize"], told["threads"], told["draft"]) == ("float32", None, 1, "draft")
    assert (told["aiflow"], told["code_sha256"]) == (aiflow_cli.__version__, fingerprint.code())
    assert told["cores"] >= 1
    assert told["cpu"]
    trials = [trial for trial in finished_trials(tmp_path / "result") if not trial["warmup"]]
    assert [trial["identical"] for trial in trials] == [True] * 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "STRANGER"}, "runs the target target ("),
        ({"target": "/nowhere/another"}, "this run names another (not on this machine)"),
        ({}, "this run names small-target ("),
        ({"target": ABSENT, "draft": "SAME", "methods": ("co-located",)}, "runs the draft draft ("),
    ],
    ids=["another folder", "another name", "another pair", "another draft"],
)
def test_a_run_that_the_server_is_not_for(
    options: dict[str, str], words: str, server: str, tiny_pair: TinyPair, photographs: Path, tmp_path: Path
) -> None:
    """Refused in one line before anything is loaded here."""
    folders = {"STRANGER": str(tiny_pair.stranger), "SAME": str(tiny_pair.target)}
    options = {name: folders.get(value, value) for name, value in options.items()}
    with pytest.raises(UsageError, match=rf"the server at {server} .*{re.escape(words)}"):
        run_here(server, tiny_pair, photographs, tmp_path, **options)
    assert not finished_trials(tmp_path / "result")


def test_a_server_without_a_draft_model_is_not_for_co_located(tiny_pair: TinyPair) -> None:
    served = describe_here(tiny_pair.target, None, "cpu", "float32", None, 1)
    pair, address = find_pair("small", str(tiny_pair.draft), ABSENT), Address("192.0.2.7", 7411)
    check_served(pair, served, address, co_located=False)
    with pytest.raises(
        UsageError, match=r"192\.0\.2\.7:7411 has no draft model.*`aiflow serve --pair small --with-draft`"
    ):
        check_served(pair, served, address, co_located=True)


def test_a_folder_whose_name_is_no_text_still_has_one(tiny_pair: TinyPair, tmp_path: Path) -> None:
    """It crosses the link, and a device that names the same folder finds it the same."""
    folder = tmp_path / os.fsdecode(b"tar\xffget\n\x1b[2J")
    shutil.copytree(tiny_pair.target, folder)
    served = describe_here(folder, None, "cpu", "float32", None, 1)
    assert served.target == r"tar\xffget\n\x1b[2J"
    welcome = Welcome(2, Fingerprint("a", "b", 5), served)
    assert decode(encode(welcome)) == welcome
    shutil.rmtree(folder)
    check_served(find_pair("small", None, str(folder)), served, Address("192.0.2.7", 7411), co_located=False)


def run_here(server: str, tiny_pair: TinyPair, photographs: Path, folder: Path, **options: Any) -> None:
    models = {"draft": str(tiny_pair.draft)} | {
        role: options.pop(role) for role in ("draft", "target") if role in options
    }
    known = {"name": "run", "about": "a test", "pairs": ["small"], "checkpoints": {"small": models}}
    spec = spec_of_options(known | options | {"data": str(photographs), "server": server})
    run_experiment(open_experiment(spec, folder / "result", stamped=True), lambda _: None)


def test_another_tokenizer_is_refused_whatever_the_targets_name(
    server: str, tiny_pair: TinyPair, photographs: Path, tmp_path: Path
) -> None:
    strange = {"target": ABSENT, "draft": str(tiny_pair.stranger)}
    with pytest.raises(LinkError, match=rf"server at {server} refuses this device: .* no pair"):
        run_here(server, tiny_pair, photographs, tmp_path, **strange)


def test_a_sweep_goes_on_with_the_same_server_only(tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    first = Background("serve", "--target", tiny_pair.target, "--listen", "127.0.0.1:0")
    server, folder = first.listening(), tmp_path / "result"
    overrides = (f"server={server}", f"checkpoints.small.target={ABSENT}", "images=1", "link.delay=0", "gammas=2")
    spec = read_spec(tmp_path, tiny_pair, photographs, *overrides)
    try:
        assert plan_experiment(spec, folder).missing == ()
        run_experiment(open_experiment(spec, folder), lambda _: None)
        assert read_run(folder)["pairs"][0]["server"]["dtype"] == "float32"
        rewrite_trials(folder, read_trials(folder)[:-1])
        assert len(earlier_trials(open_experiment(spec, folder))) == len(read_trials(folder))
    finally:
        first.signal(signal.SIGTERM)
    (absent,) = plan_experiment(spec, folder).missing
    assert f"no server at {server}" in absent
    second = Background("serve", "--target", tiny_pair.target, "--dtype", "bfloat16", "--listen", server)
    try:
        second.listening()
        with pytest.raises(UsageError, match=r"\(server: float32 on cpu .* before, bfloat16 on cpu .* now\)"):
            earlier_trials(open_experiment(spec, folder))
    finally:
        second.signal(signal.SIGTERM)


def test_a_server_that_dies_behind_the_link_is_named_by_its_own_address(tiny_pair: TinyPair, photographs: Path) -> None:
    command = Background("serve", "--target", tiny_pair.target, "--listen", "127.0.0.1:0")
    server, pair = command.listening(), find_pair("small", str(tiny_pair.draft), ABSENT)
    values = {"name": "run", "about": "a test", "pairs": "small", "max_new_tokens": 4, "server": server}
    spec = spec_of_options(values)
    first, second, *_ = schedule(list(open_images(str(photographs), None, 0)), spec)
    with LiveWorld({pair.name: pair}, spec.grid(), spec) as world:
        world.trial(*first)
        command.signal(signal.SIGKILL)
        with pytest.raises(LinkError) as caught:
            world.trial(*second)
    assert str(caught.value).startswith(f"the server at {server} went away (")
    assert str(caught.value).endswith("): what it says itself is on its standard error")
