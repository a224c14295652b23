"""Drafted tokens with their parents: a chain is the tree in which each token's parent is the one before it.

Nodes have numbers: 0 is the root, the last token of the output; n is the n-th drafted token. They are the rows of a
verification too: row n says what the target puts after node n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self


@dataclass(frozen=True)
class Tree:
    """`parents[n - 1]` is the parent of node n, and less than n. Raises ValueError for what is no tree."""

    tokens: tuple[int, ...]
    parents: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that every parent comes before its child."""
        if len(self.parents) != len(self.tokens):
            raise ValueError(f"{len(self.parents)} parents for {len(self.tokens)} drafted tokens")
        for node, parent in enumerate(self.parents, 1):
            if not 0 <= parent < node:
                raise ValueError(f"node {node} of a draft has node {parent} as its parent: parents come first")

    @classmethod
    def chain(cls, tokens: Sequence[int]) -> Self:
        """Each token follows the one before."""
        return cls(tuple(tokens), tuple(range(len(tokens))))

    def path(self, node: int) -> tuple[int, ...]:
        """The nodes from below the root to `node`, which is the last; none for the root."""
        found: list[int] = []
        while node:
            found.append(node)
            node = self.parents[node - 1]
        return tuple(reversed(found))

    def tokens_to(self, node: int) -> tuple[int, ...]:
        """The tokens of `path`."""
        return tuple(self.tokens[n - 1] for n in self.path(node))

    def child(self, node: int, token: int) -> int | None:
        """The first child of `node` that is `token`."""
        return next((n for n in self._children.get(node, ()) if self.tokens[n - 1] == token), None)

    def ends_at(self, node: int) -> bool:
        """Whether `node` has no child."""
        return node not in self._children

    def below(self, node: int) -> Branch:
        """What hangs below `node`, which becomes the root."""
        nodes = {node: 0}
        for n, parent in enumerate(self.parents, 1):
            if parent in nodes:
                nodes[n] = len(nodes)
        inner = list(nodes)[1:]
        tokens = tuple(self.tokens[n - 1] for n in inner)
        return Branch(Tree(tokens, tuple(nodes[self.parents[n - 1]] for n in inner)), tuple(nodes))

    @cached_property
    def _children(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for node, parent in enumerate(self.parents, 1):
            found.setdefault(parent, []).append(node)
        return found


class Branch(NamedTuple):
    """A part of a tree: `nodes[n]` is the number that its node n has in the whole."""

    tree: Tree
    nodes: tuple[int, ...]
