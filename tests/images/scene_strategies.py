"""Any scene that could be drawn, and many that never would be, as Hypothesis makes them."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import strategies as st

from aiflow_cli.images import scenes as s

_CELLS = [(column, lane) for column in s.COLUMNS for lane in s.LANES]


def _vehicle(cell: tuple[str, str]) -> st.SearchStrategy[s.Vehicle]:
    def with_number(kind: str) -> st.SearchStrategy[s.Vehicle]:
        return st.builds(
            s.Vehicle,
            column=st.just(cell[0]),
            lane=st.just(cell[1]),
            kind=st.just(kind),
            colour=st.sampled_from(s.COLOURS),
            heading=st.sampled_from(s.HEADINGS),
            size=st.sampled_from(s.SIZES),
            number=st.sampled_from(s.BUS_NUMBERS) if kind == "bus" else st.none(),
        )

    return st.sampled_from(s.KINDS).flatmap(with_number)


def _vehicles(indices: set[int]) -> st.SearchStrategy[tuple[s.Vehicle, ...]]:
    return st.tuples(*(_vehicle(_CELLS[index]) for index in sorted(indices)))


SCENES = st.builds(
    s.Scene,
    place=st.sampled_from(s.PLACES),
    weather=st.sampled_from(s.WEATHERS),
    time=st.sampled_from(s.TIMES),
    trees=st.integers(0, 3),
    houses=st.integers(0, 2),
    person=st.sampled_from(s.SIDES),
    light=st.sampled_from(s.LIGHTS),
    vehicles=st.sets(st.integers(0, 5), min_size=1, max_size=4).flatmap(_vehicles),
    decor_seed=st.integers(0, 2**31 - 1),
)
WORDING_SEEDS = st.integers(0, 2**32)


def scenes(seed: int, count: int) -> Iterator[s.Scene]:
    """The first `count` scenes of the stream `seed`."""
    return (s.scene_at(seed, index) for index in range(count))
