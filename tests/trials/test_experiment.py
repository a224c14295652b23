"""Experiments by their library: what a finished one holds, what it takes as done, and what its folder is called."""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from aiflow_cli.analysis.summary import summarise_groups
from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import StoreError, UsageError
from aiflow_cli.trials.experiment import choose_folder, earlier_trials, open_experiment, remaining
from aiflow_cli.trials.run import RunResult, Step, run_experiment
from aiflow_cli.trials.store import RESULTS, read_run, read_trials, rewrite_trials, write_run
from tests.conftest import TinyPair
from tests.trials.sweeps import BLOCK, IMAGES, read_spec, silent


def test_every_trial_of_the_plan_is_there_once(finished: RunResult) -> None:
    assert len(finished.measured) == IMAGES * BLOCK
    assert len({trial.trial for trial in finished.trials}) == len(finished.trials)
    assert len(finished.trials) - len(finished.measured) == BLOCK - 2  # one warm-up a setting
    per_block = Counter((t.block, t.image_id, t.setting) for t in finished.measured)
    server_only = {setting for _, _, setting in per_block if setting.method is Method.SERVER_ONLY}
    assert {count for (_, _, setting), count in per_block.items() if setting in server_only} == {2}
    assert {count for (_, _, setting), count in per_block.items() if setting not in server_only} == {1}
    orders = {tuple(t.setting for t in finished.measured if t.block == b) for b in range(IMAGES)}
    assert len(orders) == IMAGES


def test_outputs_are_judged(finished: RunResult) -> None:
    assert not finished.mismatches
    assert all(t.identical is (True if t.setting.on_server else None) for t in finished.measured)
    assert all(t.identical is None for t in finished.trials if t.warmup)


def test_run_json_says_what_was_run(finished: RunResult) -> None:
    run = read_run(finished.folder)
    assert run == json.loads(json.dumps(finished.document))
    assert run["spec"]["link"]["delay"] == ["0", "20ms"]
    assert run["trials"] == IMAGES * BLOCK
    assert run["provenance"]["finished_at"] > run["provenance"]["started_at"]
    assert [session["trials_before"] for session in run["sessions"]] == [0]
    assert run["mixed"] == run["failed"] == []
    assert [link["delay_s"] for link in run["links"]] == [0.0, 0.02]
    assert set(run["fingerprints"]) == {"spec", "data", "code", "pair small", "packages", "machine"}


def test_tables_load_in_one_line(finished: RunResult) -> None:
    trials = pd.read_parquet(finished.folder / "trials.parquet")
    rounds = pd.read_parquet(finished.folder / "rounds.parquet")
    assert len(trials) == IMAGES * BLOCK
    assert trials["trial"].is_unique
    assert set(trials["delay_s"]) == {0.0, 0.02}
    assert trials["identical"].notna().sum() == IMAGES * 2 * 4
    assert (trials["n_tokens"] == [len(tokens) for tokens in trials["tokens"]]).all()
    by_trial = rounds.groupby("trial")
    drafting = trials[trials["method"] == "speculative"].set_index("trial")
    assert (by_trial.size() == drafting["rounds"][by_trial.size().index]).all()
    assert rounds["accepted"].sum() == trials["accepted"].sum() > 0
    assert set(rounds["gamma"]) == {2, 5}


def test_tables_alone_are_the_whole_result(finished: RunResult, copy: Path) -> None:
    (copy / "trials.jsonl").unlink()
    assert read_trials(copy) == finished.measured


def test_pairs_and_links_are_summarised_apart(finished: RunResult) -> None:
    groups = summarise_groups(finished.trials)
    assert [(group.pair, group.link.delay_s) for group in groups] == [("small", 0.0), ("small", 0.02)]
    near, far = groups
    assert [(m.method, m.gamma, m.trials) for m in near.methods] == [
        ("server-only", None, 2 * IMAGES),
        ("on-device", None, IMAGES),
        ("speculative", 2, IMAGES),
        ("speculative", 5, IMAGES),
    ]
    assert far.methods[0].ttft_ms > near.methods[0].ttft_ms + 30
    assert near.as_json()["link"] == {
        "uplink_bytes_per_s": 1e6,
        "downlink_bytes_per_s": 1e6,
        "burst_bytes": 10000,
        "delay_s": 0.0,
    }


def test_a_finished_sweep_is_not_run_again(
    finished: RunResult, tiny_pair: TinyPair, photographs: Path, tmp_path: Path
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in finished.folder.iterdir()}
    again = run_experiment(open_experiment(read_spec(tmp_path, tiny_pair, photographs), finished.folder), silent)
    assert again.trials == finished.trials
    assert {path.name: path.stat().st_mtime_ns for path in finished.folder.iterdir()} == before


def test_processes_are_started_anew_for_each_session_and_only_for_those_that_lack_trials(
    tiny_pair: TinyPair, photographs: Path, tmp_path: Path
) -> None:
    overrides = ("sessions=2", "images=1", "link.delay=0", "gammas=2", "server_only_per_block=1")
    spec = read_spec(tmp_path, tiny_pair, photographs, *overrides)
    first = run_experiment(open_experiment(spec, tmp_path / "result"), silent)
    assert [t.session for t in first.measured] == [0] * 3 + [1] * 3
    assert [t.session for t in first.trials if t.warmup] == [0] * 3 + [1] * 3
    assert {t.trial[:3] for t in first.measured} == {"s0-", "s1-"}
    assert all(t.identical for t in first.measured if t.setting.on_server)
    rewrite_trials(first.folder, [t for t in first.trials if t.trial != first.measured[-1].trial])
    steps: list[Step] = []
    again = run_experiment(open_experiment(spec, first.folder), steps.append)
    assert [t.session for t in again.trials[-2:]] == [1, 1]  # a warm-up and the one that was lacking
    assert len(steps) == 3
    assert steps[-1].done == steps[-1].total == 3 * 2


def test_ray_and_a_server_elsewhere_exclude_each_other(tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    spec = read_spec(tmp_path, tiny_pair, photographs, "server=192.0.2.1:7411")
    with pytest.raises(UsageError, match="on every node: leave `server`"):
        open_experiment(spec, tmp_path / "result", ray="auto")


def test_one_folder_takes_one_sweep_at_a_time(
    copy: Path, tiny_pair: TinyPair, photographs: Path, tmp_path: Path
) -> None:
    descriptor = os.open(copy, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another aiflow is writing into"):
            run_experiment(open_experiment(read_spec(tmp_path, tiny_pair, photographs), copy), silent)
    finally:
        os.close(descriptor)


def test_a_break_between_the_last_trial_and_the_tables_is_made_good(
    copy: Path, tiny_pair: TinyPair, photographs: Path, tmp_path: Path
) -> None:
    run, trials = read_run(copy), read_trials(copy)
    write_run(copy, run | {"provenance": run["provenance"] | {"finished_at": None}})
    rewrite_trials(copy, [trial.replace(identical=None) for trial in trials])
    (copy / "trials.parquet").unlink()
    with (copy / "trials.jsonl").open("ab") as file:
        file.write(b'{"trial": "0000-0')  # what a power cut leaves
    result = run_experiment(open_experiment(read_spec(tmp_path, tiny_pair, photographs), copy), silent)
    assert result.trials == trials
    assert len(pd.read_parquet(copy / "trials.parquet")) == IMAGES * BLOCK
    assert read_run(copy)["provenance"]["finished_at"]


def test_what_is_lacking_is_found_by_name(copy: Path, tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    trials = read_trials(copy)
    lost = [t.trial for t in trials if not t.warmup][3::7]
    rewrite_trials(copy, [t for t in trials if t.trial not in lost])
    opened = open_experiment(read_spec(tmp_path, tiny_pair, photographs), copy)
    assert [planned.trial.trial for planned in remaining(opened, earlier_trials(opened))] == lost


def test_the_folder_is_named_after_the_spec_and_restarts_are_numbered(
    tiny_pair: TinyPair, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = read_spec(tmp_path, tiny_pair, photographs)
    base = RESULTS / f"tiny-{spec.fingerprint[:8]}"
    assert choose_folder(spec, None, False) == choose_folder(spec, None, True) == base
    base.mkdir(parents=True)
    assert choose_folder(spec, None, True) == base  # nothing in it
    (base / "trials.jsonl").touch()
    assert choose_folder(spec, None, False) == base
    second = Path(f"{base}-2")
    assert choose_folder(spec, None, True) == second
    second.mkdir()
    (second / "trials.jsonl").touch()
    assert choose_folder(spec, None, False) == second  # the same command goes on in the last one
    with pytest.raises(UsageError, match="never removed"):
        choose_folder(spec, base, True)
