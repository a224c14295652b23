"""How wide the columns of a table are, and which of them have room: numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

GAP = 2
"""Spaces between columns."""
_LONG_WORD = 24
"""A longer word of a text claims no more than this: it is folded before another column is left out for it."""
_NARROWEST = 4


class Need(NamedTuple):
    """What a column asks for: its longest line, its longest word. Only a text may be broken between words."""

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
    """Columns for a table of `width`. While there is no room for all, those in `droppable` go, in that order.

    What is left is then folded; where even that has no room, the table is wider than `width`. No letter is left out.
    """
    kept = list(range(len(needs)))
    for index in droppable:
        if _room(kept, width) < sum(needs[i].least for i in kept):
            kept.remove(index)
    room = _room(kept, width)
    widths = [needs[i].least for i in kept]
    if sum(widths) > room:
        widths = [min(least, _NARROWEST) for least in widths]
    while sum(widths) < room and (short := [i for i, of in enumerate(kept) if widths[i] < needs[of].whole]):
        widths[min(short, key=widths.__getitem__)] += 1  # the narrowest first
    return Layout(kept, widths)


def _room(kept: Sequence[int], width: int) -> int:
    return width - GAP * (len(kept) - 1)
