"""Bounds of `aiflow bench` on records whose figures are known by heart."""

from __future__ import annotations

import msgspec
import pytest

from aiflow_cli.analysis.bench import (
    BOUNDS,
    Checked,
    check_bounds,
    decode_tpot_ms,
    differing_images,
    latency_over_floor,
    orchestration,
)
from aiflow_cli.analysis.intervals import Interval
from aiflow_cli.cli.bench import document, print_verdicts
from aiflow_cli.trials import bench
from aiflow_cli.world.record import Delivery, Prefill, Trial
from tests.analysis.test_metrics import RESPONSE, a_round

IMAGES = [f"image {number:02d}" for number in range(12)]
LAST = IMAGES[-1]


def response(arm: str, image: str, step_s: float, first: int = 1, first_s: float = 0.1) -> Trial:
    """Ten tokens: `first` of them at `first_s`, the others `step_s` apart, with 60 000 bytes up."""
    later = 10 - first
    deliveries = (Delivery(first_s, first), Delivery(first_s + later * step_s, later))
    rounds = [
        msgspec.structs.replace(a_round(4, 2, 3), draft_s=d, verify_s=v, wall_s=0.02, bytes_up=30, bytes_down=20)
        for d, v in ((0.01, 0.009), (0.008, 0.010))
    ]
    return RESPONSE.replace(
        trial=f"{image}-{arm}",
        image_id=image,
        tokens=tuple(range(10)),
        deliveries=deliveries,
        prefill=Prefill(server_s=0.03),
        steps_s=(step_s * 0.9,) * later,
        bytes_up_by_message={"Request": 60_000},
        rounds=tuple(rounds),
    )


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
RESPONSES = {
    arm: [response(arm, image, step_s, first=3 if arm == bench.ASSISTED else 1) for image in IMAGES]
    for arm, step_s in STEPS.items()
}
RATIOS = {
    "decode": (0.6, True),
    "speculation": (0.8, False),
    "link": (1.25, False),
    "orchestration": (0.003 / 0.04, False),
    "latency": (0.154 / (0.05 + 0.03 + 9 * 0.0054), False),
}


def test_ratios_and_what_holds() -> None:
    verdicts = {verdict.bound.key: verdict for verdict in check_bounds(RESPONSES)}
    assert set(verdicts) == set(RATIOS)
    for key, (ratio, holds) in RATIOS.items():
        measured = verdicts[key].ratio
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
    steps = dict.fromkeys(STEPS, 0.1) | {bench.LEAN: 0.75, bench.GENERATE: 1.0}
    responses = {arm: [response(arm, image, step_s, first_s=0.0) for image in IMAGES] for arm, step_s in steps.items()}
    assert check_bounds(responses)[0].holds is True


@pytest.mark.parametrize(
    ("ends", "verdict", "holds"),
    [((0.6, 0.75), "HOLDS", True), ((0.7, 0.8), "UNDECIDED", None), ((0.76, 0.8), "MISSED", False)],
)
def test_a_bound_is_judged_by_the_whole_interval(ends: tuple[float, float], verdict: str, holds: bool | None) -> None:
    checked = Checked(BOUNDS[0], Interval(sum(ends) / 2, *ends))
    assert (checked.verdict, checked.holds) == (verdict, holds)
    assert checked.as_json()["verdict"] == verdict
    assert Checked(BOUNDS[0], Interval(0.5)).verdict == "UNDECIDED"


def test_orchestration_leaves_out_models_and_ideal_link() -> None:
    one = RESPONSES[bench.SHAPED_SPECULATIVE][0]
    assert orchestration(one) == pytest.approx((0.003, 0.04))
    slow = one.replace(rounds=(msgspec.structs.replace(one.rounds[0], bytes_up=11_000),))
    assert orchestration(slow).over == pytest.approx(0.0)


def test_the_floor_of_latency_is_upload_prefill_and_steps() -> None:
    over, under = latency_over_floor(response(bench.SHAPED_SERVER_ONLY, "a", 0.006))
    assert over == pytest.approx(0.154)
    assert under == pytest.approx(0.05 + 0.03 + 9 * 0.0054)


def test_what_is_not_measurable_is_neither_held_nor_missed() -> None:
    whole = {
        arm: [trial.replace(deliveries=(Delivery(0.1, 10),), rounds=()) for trial in trials]
        for arm, trials in RESPONSES.items()
    }
    verdicts = {verdict.bound.key: verdict for verdict in check_bounds(whole)}
    assert not verdicts["decode"].ratio.defined
    assert verdicts["decode"].holds is None
    assert verdicts["orchestration"].as_json()["ratio"] is None
    assert set(decode_tpot_ms(whole).values()) == {None}


def test_differing_outputs_are_named() -> None:
    assert differing_images(RESPONSES) == []
    *same, last = RESPONSES[bench.LEAN]
    assert differing_images(RESPONSES | {bench.LEAN: [*same, last.replace(tokens=(0, 1))]}) == [LAST]


def test_too_few_images_judge_no_bound(capsys: pytest.CaptureFixture[str]) -> None:
    few = {arm: trials[:3] for arm, trials in RESPONSES.items()}
    verdicts = check_bounds(few)
    assert {verdict.holds for verdict in verdicts} == {None}
    told = verdicts[0].as_json()
    assert (told["ratio"], told["ratio_ci"], told["holds"]) == (pytest.approx(0.6), None, None)
    print_verdicts(document(bench.BenchResult({"data": {"images": 3}, "gamma": 4}, few), verdicts), verdicts)
    out = capsys.readouterr().out
    assert "No bound is judged: 3 images: too few for an interval, which needs at least 10." in out
    assert "nan" not in out


def test_table_and_document(capsys: pytest.CaptureFixture[str]) -> None:
    result = bench.BenchResult({"data": {"images": 12}, "gamma": 4}, RESPONSES)
    verdicts = check_bounds(RESPONSES)
    made = document(result, verdicts)
    print_verdicts(made, verdicts)
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.rstrip().endswith(("HOLDS", "MISSED"))]
    assert [line.split()[-1] for line in rows] == ["HOLDS", "MISSED", "MISSED", "MISSED", "MISSED"]
    assert "0.600" in rows[0]
    assert "0.75" in rows[0]
    assert [bound["key"] for bound in made["bounds"]] == list(RATIOS)
    assert made["decode_tpot_ms"][bench.LEAN] == pytest.approx(6.0)
