"""`--exact`: output identical to server-only although a verification of several tokens rounds differently from a
one-token step.

In bfloat16 the same logits come out of a pass over k tokens and of k single steps a little differently, and so do the
keys and values that the pass leaves in the cache. Where the two best tokens are close, the other one may win. With a
bound on the margin between them:

- every position of a verification whose margin is below the bound is undecided, and decided again by the one-token
  steps that server-only would have made: from the last position whose cache is known to be made of such steps
  (`clean`), over all committed tokens since, up to it. That leaves the cache as server-only would have it, so the
  decision is bit for bit server-only's. Drafts behind it are dropped.
- every other position is decided by the pass.

Guaranteed: identity with server-only, if a pass changes no margin by more than the bound (a token that leads by more
than that in the pass leads in the steps too), and if the same step on the same cache gives the same bits twice (so it
does on a CPU with fixed threads, and on a GPU whose kernels are deterministic). Not guaranteed: anything if the bound
is smaller than that; `DEFAULT_BOUND` is measured, not proved, and larger models may drift further. A run checks
identity in any case. The cost is at most the steps of server-only up to the last undecided position, and the drafts
that are dropped unjudged (the one at that position and those behind it: they count as neither accepted nor rejected):
the more often the target is undecided, the less speculation gains.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiflow_cli.decoding.tree import Tree

DEFAULT_BOUND = {"float32": 1e-3, "bfloat16": 0.75, "float16": 0.1}
"""How far apart two logits may be that rounding alone can reorder, by dtype of the target: a smaller margin decides
nothing.

The one bound for all: `--exact` decides positions with a smaller margin again, and a difference from server-only whose
two tokens have a smaller margin is a tie, not a defect (`trials/identity.py`). Measured as the largest change of a
margin between passes of 2 to 17 tokens and single steps, on the small target and the two reference checkpoints: 0.00006
in float32, 0.375 in bfloat16 (logits of 16 to 32 are multiples of 0.125 there), 0.03 in float16; the bound is at least
twice that. tests/models/test_exact.py measures it again.
"""


def first_undecided(
    tree: Tree, predictions: Sequence[int], margins: Sequence[float], stop_ids: frozenset[int], bound: float
) -> int | None:
    """The first node after which the target's choice has a margin below `bound`, among those that count; None if there
    is none.

    The choice after a node counts if the target's choices lead to it from the root, and none of them ends the output.
    """
    node: int | None = 0
    while node is not None:
        if margins[node] < bound:
            return node
        token = predictions[node]
        node = None if token in stop_ids else tree.child(node, token)
    return None
