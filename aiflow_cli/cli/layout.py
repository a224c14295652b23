"""How wide the columns of a table are, and which of them have room: numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["GAP", "Layout", "Need", "lay_out"]

GAP = 2
"""Spaces between columns."""
_LONG_WORD = 24
"""A word of a text that is longer does not claim its whole length: it is folded before another column is left out for it."""
_NARROWEST = 4


class Need(NamedTuple):
    """What a column asks for: `whole` is its longest line, `word` its longest word. Only a text may be broken between words."""

    whole: int
    word: int
    text: bool

    @property
    def least(self) -> int:
        """The width below which it is not read well."""
        return min(self.word, _LONG_WORD) if self.text else self.whole


class Layout(NamedTuple):
    """The columns that are shown, by index, and how wide each is."""

    kept: list[int]
    widths: list[int]


def lay_out(needs: Sequence[Need], width: int, droppable: Sequence[int]) -> Layout:
    """Columns for a table of `width`. While there is no room for all, those in `droppable` are left out, in that order.

    What is left is then folded; where even that has no room, the table is wider than `width`. No letter is ever left out.
    """
    kept = list(range(len(needs)))
    for index in droppable:
        if _room(kept, width) < sum(needs[i].least for i in kept):
            kept.remove(index)
    room = _room(kept, width)
    widths = [needs[i].least for i in kept]
    if sum(widths) > room:
        widths = [min(least, _NARROWEST) for least in widths]
    return Layout(kept, _grown(widths, [needs[i].whole for i in kept], room))


def _room(kept: Sequence[int], width: int) -> int:
    return width - GAP * (len(kept) - 1)


def _grown(widths: list[int], most: Sequence[int], room: int) -> list[int]:
    """`widths`, the narrowest first, grown into what room there is."""
    while sum(widths) < room and (short := [i for i, width in enumerate(widths) if width < most[i]]):
        widths[min(short, key=widths.__getitem__)] += 1
    return widths
