"""Every message that the protocol knows, over the whole range of its fields."""

from __future__ import annotations

from hypothesis import strategies as st

from aiflow_cli.wire import messages as m

text = st.text(max_size=40)
counts = st.integers(0, m.MAX_NEW_TOKENS)
microseconds = st.integers(0, 2**40 - 1)
request_ids = st.integers(0, 2**32 - 1)
SERVED = m.Served("t", "0" * 64, None, None, "cpu", "float32", None, 1, "1.0", "1" * 64, "a processor", 2, None)
token_ids = st.integers(0, 2**24 - 1)
fingerprints = st.builds(m.Fingerprint, text, st.text("0123456789abcdef", max_size=64), st.integers(1, 2**24 - 1))


def packed(longest: int) -> st.SearchStrategy[bytes]:
    """Packed ids, up to so many."""
    return st.lists(token_ids, max_size=longest).map(m.pack_ids)


hellos = st.builds(m.Hello, st.integers(0, 2**31), fingerprints | st.none())
requests = st.builds(
    m.Request,
    request_ids,
    text,
    st.integers(0, m.MAX_GAMMA),
    st.integers(1, m.MAX_NEW_TOKENS),
    text,
    st.binary(max_size=300).map(m.Picture),
    st.floats(0, 1000),
    packed(50),
).filter(lambda request: len(request.method) <= 32)
drafts = st.builds(
    m.Draft, request_ids, counts, counts, packed(m.MAX_GAMMA), st.none() | st.binary(max_size=m.MAX_GAMMA)
)
cancels = st.builds(m.Cancel, request_ids)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=40)
served = st.builds(
    m.Served,
    target=names,
    target_sha256=hashes,
    draft=names | st.none(),
    draft_sha256=hashes | st.none(),
    device=names,
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
    quantize=st.sampled_from(["int8", "int4", None]),
    threads=st.integers(1, 2**16 - 1),
    aiflow=names,
    code_sha256=hashes,
    cpu=names,
    cores=st.integers(1, 2**16 - 1),
    gpu=names | st.none(),
)
welcomes = st.builds(m.Welcome, st.integers(0, 2**31), fingerprints, served)
verifications = st.builds(m.Verification, st.integers(0, m.MAX_GAMMA), microseconds, microseconds, counts, microseconds)
tokens = st.builds(
    m.Tokens,
    request_ids,
    counts,
    packed(m.MAX_GAMMA + 1),
    st.booleans(),
    microseconds,
    microseconds,
    microseconds,
)
verdicts = st.builds(
    m.Verdict,
    request_ids,
    counts,
    counts,
    st.integers(0, m.MAX_GAMMA),
    token_ids | st.none(),
    st.booleans(),
    verifications,
)
rounds = st.builds(
    m.Round,
    request_ids,
    counts,
    packed(m.MAX_GAMMA + 1),
    st.booleans(),
    st.integers(0, m.MAX_GAMMA),
    st.integers(0, m.MAX_GAMMA),
    microseconds,
    verifications,
)
refusals = st.builds(m.Refused, text)
messages: st.SearchStrategy[m.Message] = st.one_of(
    hellos, requests, drafts, cancels, welcomes, tokens, verdicts, rounds, refusals
)
