"""Reports of results that are hardly there: nothing raises but with a plain reason, and all numbers are."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aiflow_cli.analysis.report import write_report
from aiflow_cli.analysis.result import load
from aiflow_cli.errors import StoreError
from aiflow_cli.world.record import Delivery, Trial
from tests.analysis.records import FakePair, FakeSweep, records, write_records, write_result

Change = Callable[[Trial], Trial]
ONE = FakeSweep(pairs=(FakePair("small"),), images=1, gammas=(4,), co_located=(), on_device=False)
CURVE = (1, 2, 4, 8, 28)
NO_NUMBER = re.compile(r"\b(nan|inf|NaN)\b|-0\.0+\b")
NO_INTERVAL = re.compile(r"\[(> )?[-+]?\d[^],]*, ")


def undrafted(trial: Trial) -> Trial:
    """Answers of two tokens: the last is the target's own, so that rounds draft nothing."""
    rounds = tuple(msgspec.structs.replace(r, drafted=0, judged=0, accepted=0, delivered=1) for r in trial.rounds[:1])
    deliveries = (Delivery(trial.ttft_s, 1), Delivery(trial.latency_s, 1))
    return trial.replace(deliveries=deliveries, rounds=rounds, tokens=trial.tokens[:2])


def all_drafts_alike(trial: Trial) -> Trial:
    """Answers so short that every draft length drafts as much."""
    alike = [msgspec.structs.replace(r, drafted=1, judged=1, accepted=min(r.accepted, 1)) for r in trial.rounds]
    return trial.replace(rounds=tuple(alike))


def written(folder: Path, sweep: FakeSweep, change: Change = Trial.replace) -> str:
    """The report's text above the provenance, and the data of its figures."""
    write_result(folder, sweep)
    write_records(folder, [change(r) for r in records(sweep)])
    report = write_report(load(folder))
    data = [path.read_text() for path in report.figures if path.suffix == ".csv"]
    return "\n".join([report.markdown.read_text().split("## Provenance")[0], *data])


def assert_plain(text: str, sweep: FakeSweep) -> None:
    assert not [line for line in text.splitlines() if NO_NUMBER.search(line)]
    if sweep.images < 10:
        assert not [line for line in text.splitlines() if NO_INTERVAL.search(line)]
        assert "too few for an interval" in text
        assert not re.search(r"\*\*DIFFERS\*\*", text)
        assert text.count("**HOLDS**") <= 1  # the link


def test_one_image(tmp_path: Path) -> None:
    """What `aiflow run -n 1` makes."""
    assert_plain(written(tmp_path, ONE), ONE)


@pytest.mark.slow
def test_as_many_drafts_in_every_round(tmp_path: Path) -> None:
    """No slope can be told from that, and none is."""
    sweep = replace(ONE, gammas=(4, 8), images=2)
    assert_plain(written(tmp_path, sweep, all_drafts_alike), sweep)


def test_answers_too_short_to_draft_are_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="too short for anything to be drafted: let them be longer"):
        written(tmp_path, ONE, undrafted)


@pytest.mark.slow
@pytest.mark.parametrize("images", [1, 5, 10])
@pytest.mark.parametrize(
    "changes",
    [
        {"gammas": CURVE},
        {"gammas": CURVE, "pairs": (FakePair("small", alpha=0.0),)},
        {"gammas": CURVE, "pairs": (FakePair("small", alpha=1.0),)},
        {"gammas": (1,), "pairs": (FakePair("small", alpha=0.0),)},
        {"gammas": (4, 8), "co_located": (4,), "on_device": True},
        {"gammas": (4, 8), "caption_tokens": 2},
        {"gammas": (4, 8), "nodes": ("a", "b")},
    ],
    ids="-".join,
)
def test_many(tmp_path: Path, images: int, changes: dict[str, Any]) -> None:
    sweep = replace(ONE, images=images, **changes)
    assert_plain(written(tmp_path, sweep), sweep)
