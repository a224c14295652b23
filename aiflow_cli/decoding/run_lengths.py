"""Greedy speculation from one teacher-forced pass, without running it again for every draft length.

With a greedy target the committed text is always the target's own. A draft that starts at position i stays on it
exactly as long as its teacher-forced predictions match, so the number of matches from i on, L_i, answers every draft
length: min(gamma, L_i) are accepted.
"""

from __future__ import annotations

from collections.abc import Sequence


def run_lengths(matches: Sequence[bool]) -> list[int]:
    """L_i for every position: how many matches in a row begin there."""
    lengths = [0] * (len(matches) + 1)
    for i in range(len(matches) - 1, -1, -1):
        lengths[i] = lengths[i + 1] + 1 if matches[i] else 0
    return lengths[:-1]


def split_into_rounds(matches: Sequence[bool], gamma: int) -> list[int]:
    """Tokens delivered by each round of draft length `gamma` over a text of which `matches[i]` says whether the draft
    predicts token i.

    A round delivers its accepted tokens and the target's next one, except that an accepted last token (the end) has no
    next.
    """
    runs, position, delivered = run_lengths(matches), 0, []
    while position < len(matches):
        step = min(min(gamma, runs[position]) + 1, len(matches) - position)
        delivered.append(step)
        position += step
    return delivered


def acceptance_by_position(texts: Sequence[Sequence[bool]], gamma: int) -> list[float | None]:
    """The share of drafts accepted at position k = 1..gamma among those whose first k - 1 were; None: none judged."""
    judged, accepted = [0] * gamma, [0] * gamma
    for matches in texts:
        runs, position = run_lengths(matches), 0
        while position < len(matches):
            usable = min(gamma, len(matches) - position)
            run = min(usable, runs[position])
            for k in range(min(run + 1, usable)):
                judged[k] += 1
                accepted[k] += k < run
            position += run + 1
    return [a / j if j else None for a, j in zip(accepted, judged, strict=True)]
