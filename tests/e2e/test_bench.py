"""`aiflow bench`, end to end: it gives its document whatever the speed, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import TinyPair
from tests.e2e.tools import aiflow, one_line

OUTSIDE = 4


def test_bench_gives_its_document(tiny_pair: TinyPair, photographs: Path, tmp_path: Path) -> None:
    options = (*tiny_pair.options, "--data", photographs, "--images", "2", "--max-new-tokens", "16")
    finished = aiflow("bench", *options, "--check", "--json", cwd=tmp_path)
    document = json.loads(finished.stdout)
    assert document["name"] == "bench"
    assert [document["pair"][key] for key in ("name", "draft", "target")] == ["small", "draft", "target"]
    assert document["pair"]["server"]["draft"] == "draft"
    assert document["data"]["images"] == 2
    assert (document["gamma"], document["trials"]) == (4, 2 * 8)
    assert document["provenance"]["finished_at"]
    bounds = {bound["key"]: bound for bound in document["bounds"]}
    assert list(bounds) == ["decode", "speculation", "link", "orchestration", "latency"]
    for bound in bounds.values():
        assert bound["ratio"] > 0
        assert bound["ratio_ci"] is None
        assert bound["holds"] is None
    assert document["no_verdicts"] == "2 images: too few for an interval, which needs at least 10"
    assert len(document["decode_tpot_ms"]) == 8
    assert all(ms > 0 for ms in document["decode_tpot_ms"].values())
    assert document["differing_images"] == []
    assert finished.returncode == OUTSIDE, finished.stderr
    assert f"5 of 5 bounds undecided: {', '.join(bounds)}; give more --images" in one_line(finished)
    assert list(tmp_path.iterdir()) == []


def test_wrong_use_is_one_line(tiny_pair: TinyPair) -> None:
    finished = aiflow("bench", *tiny_pair.options, "--gamma", "0")
    assert finished.returncode == 2
    assert "--gamma 0: give 1 or more" in one_line(finished)
    finished = aiflow("bench", *tiny_pair.options, "--max-new-tokens", "1")
    assert finished.returncode == 2
    assert "1 new token has no time per token: give 2 or more" in one_line(finished)
