"""Bounds of `aiflow bench` on records whose figures are known by heart."""

from __future__ import annotations

from typing import Any

import pytest

from aiflow_cli.analysis.bench import BOUNDS, decode_tpot_ms, differing_images, judge, latency_over_floor, orchestration
from aiflow_cli.cli.bench import document, print_verdicts
from aiflow_cli.trials import bench

IMAGES = [f"image {number:02d}" for number in range(12)]
LAST = IMAGES[-1]


def response(arm: str, image: str, step_s: float, first: int = 1) -> dict[str, Any]:
    """Ten tokens: `first` of them at 0.1 s, the others `step_s` apart, over the shaped link with 60 000 bytes up."""
    later = 10 - first
    end_s = 0.1 + later * step_s
    return {
        "arm": arm,
        "image_id": image,
        "tokens": list(range(10)),
        "n_tokens": 10,
        "deliveries": [[0.1, first], [end_s, later]],
        "ttft_s": 0.1,
        "latency_s": end_s,
        "prefill": {"server_s": 0.03},
        "steps_s": [step_s * 0.9] * later,
        "bytes_by_message": {"up": {"Request": 60_000}, "down": {}},
        "rounds": [
            {"wall_s": 0.02, "draft_s": 0.01, "verify_s": 0.009, "bytes_up": 30, "bytes_down": 20},
            {"wall_s": 0.02, "draft_s": 0.008, "verify_s": 0.010, "bytes_up": 30, "bytes_down": 20},
        ],
    }


STEPS = {
    bench.LEAN: 0.006,
    bench.GENERATE: 0.010,
    bench.COUPLED: 0.004,
    bench.ASSISTED: 0.005,
    bench.CO_LOCATED: 0.004,
    bench.SPECULATIVE: 0.005,
    bench.SHAPED_SPECULATIVE: 0.006,
    bench.SHAPED_SERVER_ONLY: 0.006,
}
RECORDS = [
    response(arm, image, step_s, first=3 if arm == bench.ASSISTED else 1)
    for image in IMAGES
    for arm, step_s in STEPS.items()
]
RATIOS = {
    "decode": (0.6, True),
    "speculation": (0.8, False),
    "link": (1.25, False),
    "orchestration": (0.003 / 0.04, False),
    "latency": (0.154 / (0.05 + 0.03 + 9 * 0.0054), False),
}


def test_ratios_and_what_holds() -> None:
    verdicts = {verdict.bound.key: verdict for verdict in judge(RECORDS)}
    assert set(verdicts) == set(RATIOS)
    for key, (ratio, holds) in RATIOS.items():
        measured = verdicts[key].ratio
        assert measured is not None
        assert measured == pytest.approx((ratio, ratio, ratio))  # every image is the same
        assert verdicts[key].holds is holds


def test_bounds_are_those_that_were_asked_for() -> None:
    assert {bound.key: bound.most for bound in BOUNDS} == {
        "decode": 0.75,
        "speculation": 0.7,
        "link": 1.10,
        "orchestration": 0.05,
        "latency": 1.03,
    }


def test_a_ratio_that_equals_its_bound_holds() -> None:
    records = [
        response(arm, image, {bench.LEAN: 0.75, bench.GENERATE: 1.0}.get(arm, 0.1), first=0) | {"ttft_s": 0.0}
        for image in IMAGES
        for arm in bench.ARMS
    ]
    for record in records:
        record.latency_s = {bench.LEAN: 0.75, bench.GENERATE: 1.0}.get(record.arm, 0.1)
    assert judge(records)[0].holds is True


def test_orchestration_leaves_out_models_and_ideal_link() -> None:
    over, under = orchestration(RECORDS[0])
    assert (over, under) == pytest.approx((0.003, 0.04))
    slow = RECORDS[0] | {"rounds": [RECORDS[0]["rounds"][0] | {"bytes_up": 11_000}]}
    assert orchestration(slow).over == pytest.approx(0.0)


def test_the_floor_of_latency_is_upload_prefill_and_steps() -> None:
    over, under = latency_over_floor(response(bench.SHAPED_SERVER_ONLY, "a", 0.006))
    assert over == pytest.approx(0.154)
    assert under == pytest.approx(0.05 + 0.03 + 9 * 0.0054)


def test_what_is_not_measurable_is_neither_held_nor_missed() -> None:
    whole = [record | {"deliveries": [[0.1, 10]], "latency_s": 0.1, "ttft_s": 0.1, "rounds": []} for record in RECORDS]
    verdicts = {verdict.bound.key: verdict for verdict in judge(whole)}
    assert verdicts["decode"].ratio is None
    assert verdicts["decode"].holds is None
    assert verdicts["orchestration"].as_json()["ratio"] is None
    assert set(decode_tpot_ms(whole).values()) == {None}


def test_differing_outputs_are_named() -> None:
    assert differing_images(RECORDS) == []
    changed = [*RECORDS[:-1], RECORDS[-1] | {"tokens": [0, 1]}]
    assert differing_images(changed) == [LAST]


def test_too_few_images_judge_no_bound(capsys: pytest.CaptureFixture[str]) -> None:
    few = [record for record in RECORDS if record.image_id in IMAGES[:3]]
    verdicts = judge(few)
    assert {verdict.holds for verdict in verdicts} == {None}
    told = verdicts[0].as_json()
    assert (told["ratio"], told["ratio_ci"], told["holds"]) == (pytest.approx(0.6), None, None)
    print_verdicts(bench.BenchResult({"data": {"images": 3}, "gamma": 4}, few), verdicts)
    out = capsys.readouterr().out
    assert "No bound is judged: 3 images: too few for an interval, which needs at least 10." in out
    assert "nan" not in out


def test_table_and_document(capsys: pytest.CaptureFixture[str]) -> None:
    result = bench.BenchResult({"data": {"images": 12}, "gamma": 4}, RECORDS)
    verdicts = judge(RECORDS)
    print_verdicts(result, verdicts)
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.rstrip().endswith(("yes", "NO"))]
    assert [line.split()[-1] for line in rows] == ["yes", "NO", "NO", "NO", "NO"]
    assert "0.600" in rows[0]
    assert "0.75" in rows[0]
    made = document(result, verdicts)
    assert [bound["key"] for bound in made["bounds"]] == list(RATIOS)
    assert made["decode_tpot_ms"][bench.LEAN] == pytest.approx(6.0)
