"""The acceptance rule and the stopping rule of greedy speculation: no other code decides either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiflow_cli.decoding.tree import Tree


@dataclass(frozen=True)
class Outcome:
    """Of a round: the drafts up to `node` are accepted, then comes the target's own `token` (None after an accepted
    end).

    `tokens`: what the round adds to the output, both together. `judged`: how many drafts were held against the target,
    which are the accepted ones and the first rejected one if there is one. `left`: the output has left what was
    drafted. `done`: it is complete.
    """

    node: int
    accepted: int
    token: int | None
    tokens: tuple[int, ...]
    judged: int
    left: bool
    done: bool


def outcome(tree: Tree, node: int, token: int | None, done: bool, judged: int | None = None) -> Outcome:
    """What it means that the drafts up to `node` are accepted and `token` follows."""
    accepted = tree.tokens_to(node)
    left = token is not None and not tree.ends_at(node)
    tokens = accepted if token is None else (*accepted, token)
    return Outcome(node, len(accepted), token, tokens, len(accepted) + left if judged is None else judged, left, done)


def accept(tree: Tree, predictions: Sequence[int], stop_ids: frozenset[int], room: int) -> Outcome:
    """Accept drafts along the path that the target predicts, then take its correction or bonus token.

    `predictions`: the target's most likely token after the root and after each node (Leviathan et al., ICML 2023, with
    a greedy target). `room`: how many tokens the output may still have. Raises ValueError if counts do not fit, or a
    path has no room for a token behind it.
    """
    if len(predictions) != len(tree.tokens) + 1:
        raise ValueError(f"{len(predictions)} predictions for {len(tree.tokens)} drafts")
    node = depth = 0
    while (child := tree.child(node, predictions[node])) is not None:
        node, depth = child, depth + 1
        if predictions[tree.parents[node - 1]] in stop_ids:
            return outcome(tree, node, None, done=True)
    if depth >= room:
        raise ValueError(f"{depth} drafts accepted with room for {room} tokens, the target's own among them")
    token = predictions[node]
    return outcome(tree, node, token, token in stop_ids or depth + 1 == room)


def draft_length(gamma: int, room: int) -> int:
    """How many tokens are worth drafting when the output may have `room` more: the target adds one itself."""
    return min(gamma, room - 1)
