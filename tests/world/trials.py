"""Trials as tests need them: made up, whole, and typed."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from aiflow_cli.decoding.methods import Method
from aiflow_cli.world.record import Delivery, Link, Mismatch, Prefill, Round, Setting, Trial

LINK = Link(uplink_bytes_per_s=1e6, downlink_bytes_per_s=1e6, burst_bytes=10_000, delay_s=0.0)


def setting(method: str = "server-only", gamma: int | None = None, pair: str = "small") -> Setting:
    return Setting(pair=pair, method=Method(method), gamma=gamma, link=LINK)


def trial(method: str = "server-only", *tokens: int, gamma: int | None = None, **others: Any) -> Trial:
    """A trial with this output, a token a delivery."""
    place = {"trial": f"0000-000-{method}", "node": "here", "block": 0, "order": 0, "repeat": 0, "image_id": "a"}
    made = {"image_bytes": 9, "started_at": "2026-01-01T00:00:00.000Z", "setting": setting(method, gamma)}
    came = tuple(Delivery(0.1 * (i + 1), 1) for i in range(len(tokens)))
    return Trial(**(place | made | {"tokens": tokens, "deliveries": came} | others))  # type: ignore[arg-type]


_texts = st.text(st.characters(codec="utf-8"), max_size=8)
_seconds = st.floats(0, 1e6)
_counts = st.integers(0, 2**40)
_rates = st.none() | st.floats(1, 1e12)
_bytes_of = st.dictionaries(_texts, _counts, max_size=3)
_deliveries = st.lists(st.builds(Delivery, _seconds, _counts), min_size=1, max_size=3).map(tuple)


def _built(part: type, **others: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A part of a record, its counts and times as its fields are named."""
    known = {name: _seconds if name.endswith("_s") else _counts for name in part.__struct_fields__}  # type: ignore[attr-defined]
    return st.builds(part, **(known | others))


_optional = {name: st.none() | _seconds for name in Prefill.__struct_fields__}
_mismatches = _built(
    Mismatch,
    expected=st.none() | _counts,
    got=st.none() | _counts,
    margin=st.none() | _seconds,
    kind=st.sampled_from(["tie", "defect", "unexplained"]),
)
_links = _built(Link, uplink_bytes_per_s=_rates, downlink_bytes_per_s=_rates)
_settings = _built(Setting, pair=_texts, method=st.sampled_from(Method), gamma=st.none() | _counts, link=_links)


def trials(name: str) -> st.SearchStrategy[Trial]:
    """Whatever a record can hold of a measured trial."""
    return _built(
        Trial,
        trial=st.just(name),
        node=_texts,
        image_id=_texts,
        warmup=st.just(False),
        setting=_settings,
        started_at=_texts,
        caption=_texts,
        stopped=st.booleans(),
        tokens=st.lists(_counts, max_size=4).map(tuple),
        deliveries=_deliveries,
        prefill=_built(Prefill, **_optional),
        steps_s=st.lists(_seconds, max_size=3).map(tuple),
        rounds=st.lists(_built(Round), max_size=3).map(tuple),
        bytes_up_by_message=_bytes_of,
        bytes_down_by_message=_bytes_of,
        identical=st.none() | st.booleans(),
        mismatch=st.none() | _mismatches,
    )
