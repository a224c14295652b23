"""What the properties of this folder range over."""

from __future__ import annotations

from hypothesis import strategies as st

from aiflow_cli.decoding.methods import Method
from tests.decoding.models import Behaviour

FRESH = {Method.SERVER_ONLY: 0, Method.ON_DEVICE: 0}
"""Methods without a draft length."""


@st.composite
def behaviours(draw: st.DrawFn) -> Behaviour:
    vocab_size = draw(st.integers(1, 12) | st.just(92_553))
    stop_ids = draw(st.frozensets(st.integers(0, vocab_size - 1), max_size=3))
    return Behaviour(
        seed=draw(st.integers(0, 2**32)),
        vocab_size=vocab_size,
        stop_ids=stop_ids,
        stop_share=draw(st.sampled_from([0.0, 0.02, 0.2, 0.9])),
        agreement=draw(st.sampled_from([0.0, 0.3, 0.8, 0.97, 1.0])),
    )


methods = st.sampled_from(Method)
gammas = st.integers(1, 64)
lengths = st.integers(1, 90) | st.integers(1, 5)
seeds = st.integers(0, 2**32)


def gamma_of(method: Method, gamma: int) -> int:
    """`gamma`, or 0 for a method without drafts."""
    return FRESH.get(method, gamma)
