"""The acceptance rule, against its definition."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiflow_cli.decoding.acceptance import accept, draft_length
from aiflow_cli.decoding.tree import Tree

ids = st.integers(0, 3)


@dataclass(frozen=True)
class Case:
    """A verification: few ids, so that drafts agree often; a stop id at most once, as the last draft."""

    drafted: list[int]
    predictions: list[int]
    stop_ids: frozenset[int]
    left: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    drafted = draw(st.lists(ids, max_size=12))
    predictions = [draw(st.just(token) | ids) for token in drafted] + [draw(ids)]
    return Case(drafted, predictions, draw(st.frozensets(ids, max_size=2)), len(drafted) + draw(st.integers(1, 3)))


def committed(case: Case) -> list[int]:
    """What the target alone would add, token by token, as far as the drafts let it see."""
    text: list[int] = []
    for position, prediction in enumerate(case.predictions):
        text.append(prediction)
        if prediction in case.stop_ids or len(text) == case.left:
            break
        if position == len(case.drafted) or case.drafted[position] != prediction:
            break
    return text


@given(cases())
def test_a_round_adds_what_the_target_alone_would(case: Case) -> None:
    found = accept(Tree.chain(case.drafted), case.predictions, case.stop_ids, case.left)
    assert list(found.tokens) == committed(case)
    assert found.done == (found.tokens[-1] in case.stop_ids or len(found.tokens) == case.left)
    assert case.drafted[: found.accepted] == case.predictions[: found.accepted]
    assert found.node == found.accepted
    assert found.judged == min(len(case.drafted), found.accepted + (found.token is not None))
    assert found.left == (found.judged > found.accepted)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    tokens = draw(st.lists(ids, max_size=12))
    return Tree(tuple(tokens), tuple(draw(st.integers(0, node)) for node in range(len(tokens))))


@given(trees(), st.lists(ids, min_size=13, max_size=13), st.frozensets(ids, max_size=1))
def test_along_a_tree_the_targets_own_path_is_accepted(
    tree: Tree, predictions: list[int], stop_ids: frozenset[int]
) -> None:
    """Each accepted node is what the target puts after its parent, and what follows the last is no child of it, or an
    end.
    """
    found = accept(tree, predictions[: len(tree.tokens) + 1], stop_ids, 99)
    path = tree.path(found.node)
    assert [tree.tokens[node - 1] for node in path] == [predictions[parent] for parent in (0, *path)[:-1]]
    assert found.tokens == (*tree.tokens_to(found.node), *(() if found.token is None else (found.token,)))
    assert found.accepted == len(path)
    assert tree.child(found.node, predictions[found.node]) is None or found.token is None
    assert (found.token is None) == (found.done and bool(path) and tree.tokens[found.node - 1] in stop_ids)
    assert not any(tree.tokens[node - 1] in stop_ids for node in path[:-1])


@given(trees(), st.data())
def test_a_branch_is_its_part_of_the_tree(tree: Tree, data: st.DataObject) -> None:
    node = data.draw(st.integers(0, len(tree.tokens)))
    branch = tree.below(node)
    assert branch.nodes[0] == node
    below = {n for n in range(1, len(tree.tokens) + 1) if node in (0, *tree.path(n)[:-1])}
    assert set(branch.nodes[1:]) == below
    for inner, outer in enumerate(branch.nodes):
        assert tree.tokens_to(outer) == tree.tokens_to(node) + branch.tree.tokens_to(inner)


@given(st.lists(ids, max_size=9))
def test_a_chain_is_one_path(tokens: list[int]) -> None:
    chain = Tree.chain(tokens)
    assert chain.tokens_to(len(tokens)) == tuple(tokens)
    assert [chain.ends_at(node) for node in range(len(tokens) + 1)] == [False] * len(tokens) + [True]


@pytest.mark.parametrize("parents", [(0,), (1, 0), (0, 2), (0, -1), (0, 1, 2)])
def test_a_parent_comes_before_its_child(parents: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="parents"):
        Tree((1, 2), parents)


@given(cases())
def test_acceptance_ends_at_the_first_difference_or_end(case: Case) -> None:
    accepted = accept(Tree.chain(case.drafted), case.predictions, case.stop_ids, case.left).accepted
    ended = accepted > 0 and case.drafted[accepted - 1] in case.stop_ids
    assert ended or accepted == len(case.drafted) or case.drafted[accepted] != case.predictions[accepted]
    assert not any(token in case.stop_ids for token in case.drafted[: max(0, accepted - 1)])


@pytest.mark.parametrize(
    ("drafted", "predictions", "left", "expected"),
    [
        ([5, 6], [5, 6, 7], 9, (2, 7, False)),
        ([5, 6], [5, 8, 7], 9, (1, 8, False)),
        ([5, 6], [4, 6, 7], 9, (0, 4, False)),
        ([], [5], 1, (0, 5, True)),
        ([], [5], 2, (0, 5, False)),
        ([5, 6], [5, 6, 7], 3, (2, 7, True)),
        ([5, 6], [5, 7, 0], 3, (1, 7, False)),
        ([5, 0], [5, 0, 7], 9, (2, None, True)),
        ([5, 6], [0, 6, 7], 9, (0, 0, True)),
        ([5, 6], [5, 6, 0], 9, (2, 0, True)),
    ],
)
def test_examples(
    drafted: list[int], predictions: list[int], left: int, expected: tuple[int, int | None, bool]
) -> None:
    found = accept(Tree.chain(drafted), predictions, frozenset({0}), left)
    assert (found.accepted, found.token, found.done) == expected


@pytest.mark.parametrize(("drafts", "predictions"), [(2, 2), (2, 4), (0, 0)])
def test_counts_that_cannot_be_are_a_bug(drafts: int, predictions: int) -> None:
    with pytest.raises(ValueError, match=f"{predictions} predictions for {drafts} drafts"):
        accept(Tree.chain([1] * drafts), [1] * predictions, frozenset(), 9)


@pytest.mark.parametrize(("drafts", "room"), [(2, 2), (0, 0)])
def test_acceptance_without_room_is_a_bug(drafts: int, room: int) -> None:
    with pytest.raises(ValueError, match=f"{drafts} drafts accepted with room for {room} tokens"):
        accept(Tree.chain([1] * drafts), [1] * (drafts + 1), frozenset(), room)


@given(st.integers(1, 64), st.integers(1, 8192))
def test_a_round_never_has_more_drafts_than_the_output_has_room_for(gamma: int, left: int) -> None:
    length = draft_length(gamma, left)
    assert 0 <= length <= gamma
    assert length + 1 <= left
    assert length in (gamma, left - 1)
