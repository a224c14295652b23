"""A target that rounds: passes over several tokens differ from single steps, and so does all that comes after what they
left in the cache.

Its margin between the two best tokens is moved by up to DRIFT wherever a pass had more than one row or the cache holds
anything that such a pass left. With a bound above that, the output is server-only's own; without, it is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiflow_cli.decoding.actions import DraftTokens, Extend, Prefill
from aiflow_cli.decoding.device import Task
from aiflow_cli.decoding.exact import first_undecided
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.decoding.tree import Tree
from aiflow_cli.world.record import Trial
from tests.decoding.lockstep import respond
from tests.decoding.strategies import gammas, lengths, seeds
from tests.decoding.world import PICTURE

DRIFT = 0.1
VOCABULARY = 30
STOP = frozenset({0})


def drawn(*key: object) -> float:
    """A number from 0 to 1, the same for the same key."""
    return (hash(key) & 0xFFFFFF) / 0x1000000


@dataclass
class Rounding:
    """Target and draft. `dirty` counts, for every cached token, how it came into the cache: 0 by a single step on a
    cache of such.
    """

    seed: int
    ties: float
    """Share of positions whose margin is within the drift."""
    agreement: float
    cache: list[int] = field(default_factory=list)
    dirty: list[int] = field(default_factory=list)
    said: list[float] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)
    fed: list[int] = field(default_factory=list)
    """What the draft's cache holds."""

    def prefill(self, work: Prefill) -> int:
        if work.model == "target":
            self.cache, self.dirty = [], []
        return self.choice((), 0)[0]

    def extend(self, work: Extend) -> tuple[int, ...]:
        assert work.keep <= len(self.cache)
        del self.cache[work.keep :], self.dirty[work.keep :]
        rows = 1 if work.singly else len(work.tokens)
        self.passes.append(-len(work.tokens) if work.singly else rows)
        chosen = []
        for token in work.tokens:
            self.cache.append(token)
            state = hash((tuple(self.dirty), rows)) if rows > 1 or any(self.dirty) else 0
            self.dirty.append(state)
            chosen.append(self.choice(tuple(self.cache), state))
        self.said = [margin for _, margin in chosen]
        return tuple(token for token, _ in chosen)

    def margins(self) -> tuple[float, ...]:
        return tuple(self.said)

    def choice(self, text: tuple[int, ...], state: int) -> tuple[int, float]:
        """The token after a text, and by how much it is the best, as rounding has it."""
        best, other = (int(drawn(self.seed, text, k) * (VOCABULARY - 1)) for k in (1, 2))
        margin = drawn(self.seed, text, 3) * (DRIFT if drawn(self.seed, text, 4) < self.ties else 10)
        if state:
            margin += (2 * drawn(self.seed, text, state, 5) - 1) * DRIFT
        return (best, margin) if margin >= 0 else (other + (other >= best), -margin)

    def draft(self, work: DraftTokens) -> Iterator[int]:
        """Drafts what single steps would say, or the other choice; it does not use this cache."""
        text = [*self.fed[: work.keep], *work.feed]
        drafted: list[int] = []
        while len(drafted) < work.count and not (drafted and drafted[-1] in work.stop_ids):
            token = self.choice(tuple(text + drafted), 0)[0]
            agrees = drawn(self.seed, tuple(text + drafted), 6) < self.agreement
            drafted.append(token if agrees else (token + 1) % VOCABULARY)
            yield drafted[-1]
        self.fed = [*text, *drafted[:-1]]


def made(
    model: Rounding, method: Method, gamma: int, length: int, bound: float, committed: tuple[int, ...] = ()
) -> Trial:
    task = Task(1, method, 0 if method is Method.SERVER_ONLY else gamma, length, "", PICTURE, bound, committed)
    fresh = Rounding(model.seed, model.ties, model.agreement)
    trial = respond(task, STOP, VOCABULARY, fresh, fresh)
    model.passes = fresh.passes
    return trial


shares = st.sampled_from([0.0, 0.05, 0.3, 1.0])
agreements = st.sampled_from([0.0, 0.5, 0.9, 1.0])
methods = st.sampled_from([Method.SPECULATIVE, Method.CO_LOCATED])


@settings(max_examples=300)
@given(seeds, shares, agreements, methods, gammas, lengths)
def test_output_is_server_onlys(
    seed: int, ties: float, agreement: float, method: Method, gamma: int, length: int
) -> None:
    model = Rounding(seed, ties, agreement)
    expected = made(model, Method.SERVER_ONLY, 0, length, 2 * DRIFT).tokens
    assert all(rows == 1 for rows in model.passes)
    trial = made(model, method, gamma, length, 2 * DRIFT)
    assert trial.tokens == expected
    assert trial.stopped == (expected[-1] in STOP)


@settings(max_examples=200)
@given(seeds, shares, agreements, methods, gammas, st.integers(2, 60), st.data())
def test_a_response_that_goes_on_is_still_server_onlys(
    seed: int, ties: float, agreement: float, method: Method, gamma: int, length: int, data: st.DataObject
) -> None:
    model = Rounding(seed, ties, agreement)
    expected = made(model, Method.SERVER_ONLY, 0, length, 2 * DRIFT).tokens
    had = data.draw(st.integers(0, len(expected) - 1))
    for how in (Method.SERVER_ONLY, method):
        assert made(model, how, gamma, length, 2 * DRIFT, expected[:had]).tokens == expected[had:]


@given(seeds, st.sampled_from([0.05, 0.3]), agreements, methods, gammas, lengths)
def test_single_steps_begin_where_the_cache_is_clean(
    seed: int, ties: float, agreement: float, method: Method, gamma: int, length: int
) -> None:
    """And nowhere before: how far the cache is server-only's never counts more than it holds of the output."""
    trial = made(Rounding(seed, ties, agreement), method, gamma, length, 2 * DRIFT)
    clean = 0
    have = 1
    for known in trial.rounds:
        if known.redecide_steps:
            assert known.redecide_steps == have + known.accepted - clean
            clean += known.redecide_steps
        elif not known.drafted and clean == have - 1:
            clean += 1
        have += known.delivered
        clean = min(clean, have - 1)


@given(seeds, agreements, methods, gammas)
def test_a_single_step_on_a_clean_cache_is_not_made_again(
    seed: int, agreement: float, method: Method, gamma: int
) -> None:
    """However undecided it is: it is server-only's own. Two tokens are the prefill's and one without drafts."""
    model = Rounding(seed, 1.0, agreement)
    trial = made(model, method, gamma, 2, 2 * DRIFT)
    assert not any(known.redecide_steps for known in trial.rounds)
    assert model.passes == [1] * len(trial.rounds)


@given(seeds, shares, agreements, methods, gammas, lengths)
def test_what_it_cost_is_told(
    seed: int, ties: float, agreement: float, method: Method, gamma: int, length: int
) -> None:
    """Single steps never exceed server-only's, one for each token; every one is counted, with its time."""
    model = Rounding(seed, ties, agreement)
    trial = made(model, method, gamma, length, 2 * DRIFT)
    singly = [-rows for rows in model.passes if rows < 0]
    assert sum(singly) <= len(trial.tokens) - 1
    told = [known for known in trial.rounds if known.redecide_steps]
    assert [known.redecide_steps for known in told] == singly
    assert all((known.redecide_s, known.verify_s, known.queue_s) == (13e-6, 26e-6, 6e-6) for known in told)
    assert all((known.redecide_s, known.verify_s) == (0, 13e-6) for known in trial.rounds if not known.redecide_steps)


@given(seeds, agreements, methods, gammas, lengths)
def test_a_target_that_is_sure_costs_nothing(
    seed: int, agreement: float, method: Method, gamma: int, length: int
) -> None:
    """Without near-ties, rounds are those of speculation without a bound."""
    model = Rounding(seed, 0.0, agreement)
    plain, exact = (made(model, method, gamma, length, bound) for bound in (0.0, 1e-9))
    assert plain.tokens == exact.tokens
    assert [(r.drafted, r.accepted) for r in plain.rounds] == [(r.drafted, r.accepted) for r in exact.rounds]


@given(seeds, shares, methods, gammas, lengths)
def test_drafts_behind_an_undecided_position_are_not_judged(
    seed: int, ties: float, method: Method, gamma: int, length: int
) -> None:
    """A draft that says what the target says is never rejected, however often the target is undecided."""
    trial = made(Rounding(seed, ties, 1.0), method, gamma, length, 2 * DRIFT)
    assert all(known.judged == known.accepted <= known.drafted for known in trial.rounds)


@given(seeds, shares, agreements, methods, gammas, lengths)
def test_without_an_undecided_position_drafts_are_judged_up_to_the_first_rejection(
    seed: int, ties: float, agreement: float, method: Method, gamma: int, length: int
) -> None:
    trial = made(Rounding(seed, ties, agreement), method, gamma, length, 2 * DRIFT)
    for known in trial.rounds:
        expected = min(known.drafted, known.accepted + 1)
        assert known.judged == expected or (known.redecide_steps and known.judged == known.accepted)


def test_without_a_bound_outputs_differ() -> None:
    """So the test above can fail."""
    different = 0
    for seed in range(20):
        model = Rounding(seed, 0.3, 0.9)
        expected = made(model, Method.SERVER_ONLY, 0, 40, 0.0).tokens
        different += made(model, Method.SPECULATIVE, 4, 40, 0.0).tokens != expected
        assert not any(rows < 0 for rows in model.passes)
    assert different >= 5


def test_deciding_again_on_a_drifted_cache_would_not_do() -> None:
    """The single steps begin where the cache is still server-only's, not at the undecided position."""
    model = Rounding(3, 0.3, 1.0)
    made(model, Method.SPECULATIVE, 4, 60, 2 * DRIFT)
    assert max(-rows for rows in model.passes) > 1


@pytest.mark.parametrize(
    ("drafted", "predictions", "margins", "expected"),
    [
        ((5, 6), (5, 6, 7), (1, 1, 1), None),
        ((5, 6), (5, 6, 7), (1, 0.1, 0.1), 1),
        ((5, 6), (5, 6, 7), (1, 1, 0.1), 2),
        ((5, 6), (4, 6, 7), (1, 0.1, 0.1), None),  # nothing behind a rejection counts
        ((5, 6), (4, 6, 7), (0.1, 1, 1), 0),
        ((5, 0), (5, 0, 7), (1, 1, 0.1), None),  # nor behind an end
        ((), (7,), (0.1,), 0),
    ],
)
def test_first_undecided(
    drafted: tuple[int, ...], predictions: tuple[int, ...], margins: tuple[float, ...], expected: int | None
) -> None:
    assert first_undecided(Tree.chain(drafted), predictions, margins, STOP, 0.5) == expected


def test_one_server_session_decides_again_in_every_request() -> None:
    """What is known of the cache is forgotten between requests."""
    server = ServerSession(STOP, VOCABULARY, can_draft=True)
    for index, length in enumerate((30, 5, 40, 30)):
        model = Rounding(5 + index, 0.5, 0.9)
        expected = made(model, Method.SERVER_ONLY, 0, length, 0.0).tokens
        task = Task(index, Method.SPECULATIVE, 4, length, "", PICTURE, 2 * DRIFT)
        fresh = Rounding(model.seed, model.ties, model.agreement)
        assert respond(task, STOP, VOCABULARY, fresh, fresh, server).tokens == expected
