"""Reading results: leniently where it can be, with one clear line where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiflow_cli.analysis.catalog import list_results
from aiflow_cli.analysis.result import find, link_label, load
from aiflow_cli.analysis.study import Study
from aiflow_cli.errors import StoreError, UsageError
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.trials import store
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


def test_a_trial_without_a_delivery_is_damage(tmp_path: Path) -> None:
    first, second, *rest = records(SMALL)
    write_records(tmp_path, [first, second.replace(deliveries=()), *rest])
    with pytest.raises(StoreError, match=f"{second.trial} has no delivery"):
        load(tmp_path)


def test_warmups_alone_are_no_result(tmp_path: Path) -> None:
    write_records(tmp_path, list(records(SMALL))[:1])
    with pytest.raises(StoreError, match="no finished trial"):
        load(tmp_path)


def test_tables_alone_are_a_result(tmp_path: Path) -> None:
    """What is committed of a reference run."""
    folder = write_result(tmp_path / "a", SMALL)
    lines = load(folder)
    store.write_tables(folder, lines.trials)
    (folder / "trials.jsonl").unlink()
    assert load(folder).trials == lines.trials
    (entry,) = list_results(tmp_path)
    assert (entry.state, entry.trials, entry.note) == ("complete", 15, None)
    assert find(str(folder / "trials.parquet")) == folder


def test_no_json_at_all(tmp_path: Path) -> None:
    (tmp_path / "trials.jsonl").write_text("[1, 2]\n")
    with pytest.raises(StoreError, match="damaged"):
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
    assert Study(result).reference_link == result.links[0]


def test_the_list_of_results(tmp_path: Path) -> None:
    write_result(tmp_path / "whole", SMALL)
    half = write_result(tmp_path / "half", SMALL)
    write_records(half, list(records(SMALL))[:7])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    (tmp_path / "no result").mkdir()
    (tmp_path / "latest").symlink_to("half")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "run.json").write_text("{}")
    found = {entry.run_id: entry for entry in list_results(tmp_path)}
    assert {name: (e.state, e.trials) for name, e in found.items()} == {
        "whole": ("complete", 3 * 5),
        "half": ("unfinished", 6),
        "latest": ("unfinished", 6),
        "bare": ("unfinished", 0),
        "broken": ("damaged", 0),
    }
    assert found["bare"].note == "no finished trial"
    assert found["whole"].planned == 15
    assert found["whole"].pairs == ("small",)
    assert found["whole"].commit == "0123456789"
    assert found["broken"].note == "run.json cannot be read"
    assert json.dumps(found["half"].as_json())
