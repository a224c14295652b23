"""The honesty panel says what there is to say, and nothing where there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from aiflow_cli.analysis.captions import marked_captions
from aiflow_cli.analysis.honesty import examine, outliers
from aiflow_cli.analysis.result import Result, load
from aiflow_cli.analysis.study import Study
from aiflow_cli.decoding.methods import Method
from aiflow_cli.world.record import Delivery, Trial
from tests.analysis.records import FakePair, FakeSweep, records, write_records

Make = Callable[..., Result]
WEAK = FakePair("small-weak")


def changed(folder: Path, sweep: FakeSweep, change: Callable[[Trial], Trial]) -> Result:
    write_records(folder, [change(r) for r in records(sweep)])
    return load(folder)


def test_every_definition_of_every_method(figure6: Result) -> None:
    rows = examine(Study(figure6)).definitions
    settings = [row.setting for row in rows if row.series == "small-weak"]
    assert settings[0] == "server-only"
    assert settings[-1] == "on-device"
    assert {"speculative, γ 1", "speculative, γ 28"} <= set(settings)
    for row in rows:
        assert list(row.times_ms) == ["TTFT", "latency per token", "TPOT", "decode TPOT"]
        assert all(time.defined for time in row.times_ms.values())
        assert {speedup.defined for speedup in row.speedups.values()} == {row.setting != "server-only"}


def test_all_four_baselines(figure6: Result, one_gamma: Result) -> None:
    assert len(examine(Study(figure6)).baselines) == 2 * 4
    rows = examine(Study(one_gamma)).baselines
    assert [row.speedups["decode TPOT"].defined for row in rows] == [True, True, False, False]
    assert "not measured: add the method `co-located`" in [row.note for row in rows]


def test_an_unfinished_run_shows_the_same_in_tables_and_figures(tmp_path: Path) -> None:
    """Images that lack a draft length still have co-located speculation and the draft alone."""
    sweep = FakeSweep(pairs=(WEAK,), gammas=(2, 4, 8), images=14, co_located=(4,))
    write_records(tmp_path, [r for r in records(sweep) if r.setting.label != "speculative-8" or r.block not in (1, 3)])
    study = Study(load(tmp_path))
    (curve,), (co_located,) = study.curves, study.co_located
    assert (curve.images, co_located.images) == (12, 14)
    panel = examine(study)
    for rows in (panel.definitions, panel.baselines):
        *_, beside, alone = rows
        assert beside.speedups["decode TPOT"] == co_located.best.speedup
        assert alone.speedups["decode TPOT"] == study.on_device(curve.series)
    assert len(marked_captions(study, 4)) == 4


def test_settings_slower_than_server_only_are_named(make: Make) -> None:
    slower = examine(Study(make(FakeSweep(pairs=(FakePair("small", alpha=0.3),), gammas=(1, 4, 28), images=10)))).slower
    assert any("slower than server-only" in line and "γ 28" in line for line in slower)


def test_a_better_baseline_is_named(delays: Result) -> None:
    slower = examine(Study(delays)).slower
    assert any(
        "co-located speculation (γ 4) is" in line and "20 ms" in line and "decide" not in line for line in slower
    )


def test_drift_is_shown_and_its_absence_too(tmp_path: Path, make: Make) -> None:
    sweep = FakeSweep(pairs=(WEAK,), gammas=(2, 4), images=30, noise=0.01)
    assert "no drift shown" in examine(Study(make(sweep))).drift[0]

    def later_is_slower(r: Trial) -> Trial:
        pace = 1 + 0.012 * r.block
        return r.replace(deliveries=tuple(Delivery(d.at_s * pace, d.n_tokens) for d in r.deliveries))

    line = examine(Study(changed(tmp_path, sweep, later_is_slower))).drift[0]
    assert "server-only: drift" in line
    assert "1.2" in line


def test_too_few_images_are_not_judged(make: Make) -> None:
    """A draft that loses everywhere, on a machine that gets slower: values and reasons, and no verdict."""
    panel = examine(Study(make(FakeSweep(pairs=(FakePair("small", alpha=0.1),), gammas=(1, 4), images=6))))
    few = "6 images: too few for an interval, which needs at least 10"
    assert panel.slower == [f"small: not judged: {few}"]
    assert "drift is not judged (2 images: too few for an interval" in panel.drift[0]
    assert few in panel.notes
    assert all(not interval.known for row in panel.definitions for interval in row.times_ms.values())


def test_an_outlier_is_listed_and_stays(tmp_path: Path) -> None:
    sweep = FakeSweep(pairs=(WEAK,), gammas=(2, 4), images=10)
    victim = next(r.trial for r in records(sweep) if r.setting.method is Method.SPECULATIVE)

    def stall(r: Trial) -> Trial:
        slow = (msgspec.structs.replace(one, wall_s=one.wall_s * 3) for one in r.rounds)
        return r.replace(rounds=tuple(slow)) if r.trial == victim else r

    result = changed(tmp_path, sweep, stall)
    found = outliers(result.trials)
    assert [o.trial for o in found] == [victim]
    assert 2.5 < found[0].ratio < 3.5
    assert victim in {r.trial for r in result.trials}


def test_no_outliers_among_equals(figure6: Result) -> None:
    assert outliers(figure6.trials) == []


def test_notes(make: Make, figure6: Result) -> None:
    assert examine(Study(figure6)).notes == []
    result = make(FakeSweep(pairs=(WEAK,), gammas=(2, 4), images=4, data="vehicles-openimage", nodes=("a", "b")))
    result.document["provenance"] |= {
        "git": {"revision": "a" * 40, "dirty": True},
        "load_at_start": [1.9, 1, 1],
        "cpu": {"model": "x", "usable_cores": 1},
        "finished_at": None,
    }
    result.document["mixed"] = [{"changed": ["code: 1 before, 2 now"]}]
    notes = " ".join(examine(Study(result)).notes)
    for said in (
        "captions are wrong",
        "2 nodes",
        "uncommitted",
        "load 1.9",
        "one core",
        "not complete",
        "mixed",
        "4 images",
    ):
        assert said in notes, said


def test_an_unfinished_run_says_how_far_it_is(tmp_path: Path, make: Make) -> None:
    result = make(FakeSweep(pairs=(WEAK,), gammas=(2, 4), images=12))
    result.document["trials"] = 1000
    assert any(f"{len(result.trials)} of 1000 trials" in note for note in examine(Study(result)).notes)
