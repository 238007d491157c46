"""Candidates that are encoded by hand, beside protobuf's own encoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextok.v1 import types_pb2 as types
from nextok_server.candidate_bytes import CandidateBytes
from nextok_server.sampling import Candidate
from nextok_server.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(artifacts):
    return Tokenizer.from_file(artifacts["fp32"] / "tokenizer.json")


floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
candidates = st.builds(
    Candidate,
    st.integers(0, 50256),
    floats,
    st.integers(1, 50257),
    st.one_of(st.just(0.0), st.floats(0, 1, width=32)),
    st.booleans(),
)


@given(st.lists(candidates, max_size=20), st.lists(candidates, max_size=3))
def test_they_are_read_as_what_protobuf_writes(tokenizer, top, chosen):
    encoder = CandidateBytes(tokenizer)
    message = types.Step(index=3, delta="x")
    message.MergeFromString(encoder.encode(10, top) + encoder.encode(11, chosen))
    expected = types.Step(index=3, delta="x")
    for field, some in ((expected.top_logprobs, top), (expected.token_logprobs, chosen)):
        for token_id, logprob, rank, prob, kept in some:
            field.add(
                id=token_id,
                token=tokenizer.token_text(token_id),
                bytes=tokenizer.token_bytes(token_id),
                logprob=logprob,
                rank=rank,
                prob=prob,
                kept=kept,
            )
    assert message.SerializeToString(deterministic=True) == expected.SerializeToString(
        deterministic=True
    )


def test_every_token_of_the_vocabulary_is_told_whole(tokenizer):
    encoder = CandidateBytes(tokenizer)
    for token_id in range(50257):
        message = types.Step()
        message.MergeFromString(encoder.encode(10, [Candidate(token_id, -1.5, 1, 0.25, True)]))
        (told,) = message.top_logprobs
        assert (told.id, told.logprob, told.rank, told.prob, told.kept) == (
            token_id,
            -1.5,
            1,
            0.25,
            True,
        )
        assert told.bytes == tokenizer.token_bytes(token_id)
        assert told.token == tokenizer.token_text(token_id)
