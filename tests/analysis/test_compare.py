"""What differs between two results."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiflow_cli.analysis.compare import compare, set_up_differences
from aiflow_cli.analysis.result import Result, load
from aiflow_cli.errors import UsageError
from tests.analysis.records import FakePair, FakeSweep, document, records, write_records, write_result

BASE = FakeSweep(pairs=(FakePair("small"),), images=12, gammas=(2, 4), co_located=(), noise=0.02)


def result(folder: Path, **changes: object) -> Result:
    return load(write_result(folder, FakeSweep(**{**BASE.__dict__, **changes})))


def test_a_result_equals_itself(tmp_path: Path) -> None:
    one = result(tmp_path / "a")
    found = compare(one, one)
    assert found.differences == []
    assert {c.verdict for c in found.settings} == {"no difference shown"}
    assert all(c.paired for c in found.settings)
    assert all(c.decode_tpot_ratio == pytest.approx((1, 1, 1)) for c in found.settings)
    assert [c.setting for c in found.settings] == ["server-only", "on-device", "speculative γ 2", "speculative γ 4"]


def test_a_result_equals_itself_on_a_machine_of_another_name(tmp_path: Path) -> None:
    one, other = result(tmp_path / "a", nodes=("laptop",)), result(tmp_path / "b", nodes=("laptop, renamed",))
    found = compare(one, other)
    assert all(c.paired for c in found.settings)
    assert {c.decode_tpot_ratio for c in found.settings} == {(1, 1, 1)}
    assert {c.latency_ratio for c in found.settings} == {(1, 1, 1)}
    assert {c.verdict for c in found.settings} == {"no difference shown"}


def test_an_image_that_several_machines_captioned_is_compared_on_each(tmp_path: Path) -> None:
    """Machine b is a third slower. Were its trials added to those of a, an image would not equal itself."""
    sweep = FakeSweep(**{**BASE.__dict__, "nodes": ("a", "b")})
    made = list(records(sweep))
    swapped = [r.replace(node={"a": "b", "b": "a"}[r.node], trial=f"again-{r.trial}") for r in made]
    for name, trials in (("both", [*made, *swapped]), ("one", made)):
        write_records(write_result(tmp_path / name, sweep), trials)
    both, one = load(tmp_path / "both"), load(tmp_path / "one")
    assert {c.decode_tpot_ratio for c in compare(both, both).settings} == {(1, 1, 1)}
    assert {(c.decode_tpot_ratio, c.images) for c in compare(both, one).settings} == {((1, 1, 1), BASE.images)}


def test_a_cheaper_draft_is_faster_and_nothing_else_is(tmp_path: Path) -> None:
    cheap = (FakePair("small", draft_cost=0.05),)
    found = compare(result(tmp_path / "a"), result(tmp_path / "b", pairs=cheap))
    verdicts = {c.setting: c.verdict for c in found.settings}
    assert verdicts["speculative γ 4"] == "B is faster"
    assert verdicts["server-only"] == "no difference shown"
    four = next(c for c in found.settings if c.setting == "speculative γ 4")
    assert four.speedup_b.low > four.speedup_a.high
    assert four.decode_tpot_ratio.high < 1


def test_other_data_are_not_paired(tmp_path: Path) -> None:
    other = result(tmp_path / "b", seed=2)
    other.document["data"]["fingerprint"] = "0" * 64
    found = compare(result(tmp_path / "a"), other)
    assert not any(c.paired for c in found.settings)
    assert {d.what for d in found.differences} == {"data.fingerprint", "spec.seed"}


def test_one_pair_against_another_compares_by_method(tmp_path: Path) -> None:
    found = compare(result(tmp_path / "a"), result(tmp_path / "b", pairs=(FakePair("small-weak"),), gammas=(4, 8)))
    assert [c.setting for c in found.settings] == ["server-only", "on-device", "speculative γ 4"]
    assert (found.only_a, found.only_b) == (["speculative γ 2"], ["speculative γ 8"])


def test_pairs_and_links_are_named_where_there_are_several(figure6: Result, delays: Result) -> None:
    labels = [c.setting for c in compare(figure6, delays).settings]
    assert "small-weak, 1 MB/s, speculative γ 4" in labels
    assert "small-weak, on-device" in labels
    assert not [label for label in labels if "ms" in label]


def test_nothing_in_common(tmp_path: Path) -> None:
    one, other = result(tmp_path / "a"), result(tmp_path / "b", pairs=(FakePair("x"), FakePair("y")))
    with pytest.raises(UsageError, match="no setting in common"):
        compare(one, other)


def test_set_up_is_compared_by_dotted_name() -> None:
    a, b = document(BASE), document(BASE)
    b["provenance"]["packages"]["torch"] = "2.14.0"
    b["links"][0]["delay_s"] = 0.005
    b["provenance"]["load_at_start"] = [9, 9, 9]
    found = {d.what: (d.a, d.b) for d in set_up_differences(a, b)}
    assert found == {
        "packages.torch": ("2.13.0", "2.14.0"),
        "links": (["1 MB/s, burst 10000 B"], ["1 MB/s, 5 ms, burst 10000 B"]),
    }


def test_sessions_of_two_results_have_nothing_to_do_with_each_other(tmp_path: Path) -> None:
    """Each ran in sessions that wander: their ratio is as uncertain as both together, although images are paired."""
    widths = []
    for noise in (0.0, 0.05):
        one, other = (result(tmp_path / f"{noise}-{n}", sessions=3, session_noise=noise) for n in (1, 2))
        found = compare(one, other)
        assert all(c.paired for c in found.settings)
        assert found.resampled == "images and 3 sessions"
        ratio = next(c.decode_tpot_ratio for c in found.settings if c.setting == "speculative γ 4")
        widths.append(ratio.high - ratio.low)
    assert widths[1] > 3 * widths[0]
