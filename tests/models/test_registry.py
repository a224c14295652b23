"""The registry of pairs: every entry is whole, and names lead to folders, to the hub, or to a clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiflow_cli.errors import UsageError
from aiflow_cli.models.dry_run import shipped_config
from aiflow_cli.models.internvl2 import DTYPES
from aiflow_cli.models.pair import PAIRS_FOLDER, find_pair, registry, same_target
from tests.conftest import TinyPair

ROLES = ("draft", "target")


def test_every_entry_is_whole() -> None:
    assert {"small", "small-weak", "internvl2-2b-26b"} <= set(registry())
    for name, pair in registry().items():
        assert pair.name == name
        assert pair.about
        assert pair.question
        assert pair.dtype in DTYPES
        assert pair.max_new_tokens > 0
        for role in ROLES:
            repository = pair.repository(role)
            if repository is None:
                assert Path(pair.place(role)).parent == PAIRS_FOLDER
            else:
                assert shipped_config(repository) is not None


def test_dtype_is_bfloat16_on_a_gpu() -> None:
    pair = find_pair("internvl2-2b-26b")
    assert pair.dtype_on("cuda") == pair.dtype_on("auto") == "bfloat16"
    assert pair.dtype_on("cpu") == "float32"


def test_the_papers_pair_is_named() -> None:
    pair = find_pair("internvl2-2b-26b")
    assert [str(pair.repository(role)) for role in ROLES] == ["OpenGVLab/InternVL2-2B", "OpenGVLab/InternVL2-26B"]


def test_drafts_of_one_target() -> None:
    assert {pair.name for pair in same_target(find_pair("small"))} >= {"small", "small-weak"}


def test_other_models_than_the_pairs_own(tiny_pair: TinyPair) -> None:
    pair = find_pair("small", str(tiny_pair.draft), "OpenGVLab/InternVL2_5-2B@0123abcd")
    assert pair.folder("draft") == tiny_pair.draft
    assert pair.repository("draft") is None
    repository = pair.repository("target")
    assert repository is not None
    assert (repository.id, repository.revision) == ("OpenGVLab/InternVL2_5-2B", "0123abcd")


def test_a_folder_comes_before_a_hub_id(tiny_pair: TinyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_pair.target.parent.parent)
    relative = f"{tiny_pair.target.parent.name}/target"
    assert find_pair("small", target=relative).folder("target") == Path(relative)


@pytest.mark.parametrize("place", ["/nowhere/at/all", "./nowhere", "nowhere", "a/b/c"])
def test_a_folder_that_is_not_there(place: str) -> None:
    with pytest.raises(UsageError, match="does not exist: give the folder of a checkpoint, or a hub id OWNER/NAME"):
        find_pair("small", target=place).folder("target")


def test_unknown_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'small'"):
        find_pair("smal")
    with pytest.raises(UsageError, match="know small, small-weak"):
        find_pair("zzz")
