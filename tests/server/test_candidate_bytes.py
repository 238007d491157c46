"""Candidates that are encoded by hand, beside protobuf's own encoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.wire_values import candidate_message, candidates

from nextok.v1 import types_pb2 as types
from nextok_server.candidate_bytes import CandidateBytes
from nextok_server.sampling import Candidate
from nextok_server.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(artifacts):
    return Tokenizer.from_file(artifacts["fp32"] / "tokenizer.json")


@given(st.lists(candidates, max_size=20), st.lists(candidates, max_size=3))
def test_they_are_read_as_what_protobuf_writes(tokenizer, top, chosen):
    encoder = CandidateBytes(tokenizer)
    message = types.Step(index=3, delta="x")
    message.MergeFromString(encoder.encode(10, top) + encoder.encode(11, chosen))
    expected = types.Step(index=3, delta="x")
    for field, some in ((expected.top_logprobs, top), (expected.token_logprobs, chosen)):
        field.extend(candidate_message(tokenizer, told) for told in some)
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
