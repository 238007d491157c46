"""What is told of tokens, drawn, and as protobuf writes it."""

from __future__ import annotations

from hypothesis import strategies as st

from nextok.v1 import types_pb2 as types
from nextok_server.candidates import Candidate
from nextok_server.tokenizer import Tokenizer

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
candidates = st.builds(
    Candidate,
    st.integers(0, 50256),
    floats,
    st.integers(1, 50257),
    st.one_of(st.just(0.0), st.floats(0, 1, width=32)),
    st.booleans(),
)


def candidate_message(tokenizer: Tokenizer, told: Candidate) -> types.Candidate:
    """A candidate, field by field."""
    return types.Candidate(
        id=told.token_id,
        token=tokenizer.token_text(told.token_id),
        bytes=tokenizer.token_bytes(told.token_id),
        logprob=told.logprob,
        rank=told.rank,
        prob=told.prob,
        kept=told.kept,
    )
