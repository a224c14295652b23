"""Reading results: leniently where it can be, with one clear line where it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiflow_cli.analysis.catalog import list_results
from aiflow_cli.analysis.result import find, link_label, load
from aiflow_cli.errors import StoreError, UsageError
from aiflow_cli.link.spec import LinkSpec
from tests.analysis.records import FakePair, FakeSweep, document, records, write_records, write_result

SMALL = FakeSweep(pairs=(FakePair("small"),), images=3, gammas=(2, 4), co_located=())


def test_a_result_without_run_json_is_read(tmp_path: Path) -> None:
    write_records(tmp_path, list(records(SMALL)))
    result = load(tmp_path)
    assert result.commit == "unknown"
    assert result.data_name == "unknown data"
    assert result.pairs == ["small"]
    assert result.gammas(result.series()[0]) == [2, 4]


def test_warmups_are_left_out(tmp_path: Path) -> None:
    made = list(records(SMALL))
    write_records(tmp_path, made)
    assert len(load(tmp_path).trials) == len([r for r in made if not r.warmup]) < len(made)


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    write_result(tmp_path, SMALL)
    before = len(load(tmp_path).trials)
    with (tmp_path / "trials.jsonl").open("a") as file:
        file.write('{"trial": "torn')
    assert len(load(tmp_path).trials) == before


def damaged(change: Callable[[list[dict[str, Any]]], None], folder: Path) -> str:
    made = list(records(SMALL))
    change(made)
    write_records(folder, made)
    with pytest.raises(StoreError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_damage_is_named_with_its_line(tmp_path: Path) -> None:
    assert "trials.jsonl:3 is damaged: this trial has no rounds" in damaged(lambda m: m[2].pop("rounds"), tmp_path)
    assert "no delivery" in damaged(lambda m: m[2].update(deliveries=[]), tmp_path)
    assert "trials.jsonl:1 is damaged" in damaged(lambda m: m[0]["link"].update(uplink_bytes_per_s=-1), tmp_path)
    assert "no finished trial" in damaged(lambda m: m.__delitem__(slice(1, None)), tmp_path)


def test_no_json_at_all(tmp_path: Path) -> None:
    (tmp_path / "trials.jsonl").write_text("[1, 2]\n")
    with pytest.raises(StoreError, match="this is no trial"):
        load(tmp_path)
    (tmp_path / "trials.jsonl").write_text("nonsense\n")
    with pytest.raises(StoreError, match="damaged"):
        load(tmp_path)
    with pytest.raises(StoreError, match="holds no result"):
        load(tmp_path / "nothing")


def test_a_newer_schema_is_not_guessed_at(tmp_path: Path) -> None:
    write_result(tmp_path, SMALL)
    (tmp_path / "run.json").write_text(json.dumps(document(SMALL) | {"schema_version": 99}))
    with pytest.raises(StoreError, match="newer aiflow"):
        load(tmp_path)


def test_results_are_found_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_result(Path("results") / "figure6-1a2b", SMALL)
    assert find("figure6-1a2b") == folder
    assert find(str(folder)) == find(str(folder / "trials.jsonl")) == folder
    with pytest.raises(UsageError, match="did you mean `figure6-1a2b`"):
        find("figure6-1a2c")


def test_links_by_name() -> None:
    assert link_label(LinkSpec(1e6, 1e6)) == "1 MB/s"
    assert link_label(LinkSpec(5e5, float("inf"), delay_s=0.005)) == "500 KB/s up, unlimited down, 5 ms"


def test_an_unlimited_link_is_read(tmp_path: Path) -> None:
    result = load(write_result(tmp_path, FakeSweep(pairs=(FakePair("small"),), images=2, gammas=(2, 4), rates=(None,))))
    assert [link_label(link) for link in result.links] == ["unlimited"]
    assert result.reference_link == result.links[0]


def test_the_list_of_results(tmp_path: Path) -> None:
    write_result(tmp_path / "whole", SMALL)
    half = write_result(tmp_path / "half", SMALL)
    write_records(half, list(records(SMALL))[:7])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    (tmp_path / "no result").mkdir()
    found = {entry.run_id: entry for entry in list_results(tmp_path)}
    assert {name: (e.state, e.trials) for name, e in found.items()} == {
        "whole": ("complete", 3 * 5),
        "half": ("unfinished", 6),
        "broken": ("damaged", 0),
    }
    assert found["whole"].planned == 15
    assert found["whole"].pairs == ("small",)
    assert found["whole"].commit == "0123456789"
    assert found["broken"].note == "run.json cannot be read"
    assert json.dumps(found["half"].as_json())


def test_a_run_with_one_pair_is_listed_by_its_name(tmp_path: Path) -> None:
    folder = write_result(tmp_path / "run", SMALL)
    told = document(SMALL)
    told["pair"] = told.pop("pairs")[0]
    (folder / "run.json").write_text(json.dumps(told))
    assert list_results(tmp_path)[0].pairs == ("small",)
    assert load(folder).pairs == ["small"]
