"""Work is done a pass at a time, and no longer than it is wanted."""

from __future__ import annotations

import pytest

from aiflow_cli.decoding.actions import DraftTokens
from aiflow_cli.decoding.events import Drafted
from aiflow_cli.node.perform import perform
from tests.decoding.models import CachedModel


@pytest.mark.parametrize("passes", [1, 2, 5])
def test_drafting_ends_with_the_pass_after_which_it_is_wanted_no_more(passes: int) -> None:
    model, asked = CachedModel(len, cache=[]), 0

    def wanted() -> bool:
        nonlocal asked
        asked += 1
        return asked < passes

    work = DraftTokens(ticket=3, keep=0, feed=(9,), count=5, stop_ids=frozenset())
    done = perform(work, {"draft": model}, wanted=wanted)
    assert isinstance(done, Drafted)
    assert (done.ticket, done.tokens) == (3, tuple(range(1, passes + 1)))
    assert (asked, model.fed) == (passes, [1] * passes)
