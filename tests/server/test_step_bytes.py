"""Steps and candidates that compiled code encodes, beside protobuf's own encoding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.wire_values import candidate_message, candidates, floats

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok_server.candidates import Candidate, Candidates
from nextok_server.events import Distribution, Step
from nextok_server.step_bytes import StepBytes, record
from nextok_server.tokenizer import Tokenizer

STEPS = pb.GenerateResponse.DESCRIPTOR.fields_by_name["steps"].number
NUMBERS = ("entropy", "top_mass", "tail_mass", "margin")


@pytest.fixture(scope="module")
def tokenizer(artifacts):
    return Tokenizer.from_file(artifacts["fp32"] / "tokenizer.json")


distributions = st.builds(
    Distribution,
    st.lists(candidates, max_size=20).map(Candidates.of),
    st.lists(candidates, max_size=3).map(Candidates.of),
    floats,
    floats,
    floats,
    floats,
    st.one_of(st.none(), st.lists(floats, min_size=1, max_size=50).map(np.float32)),
    st.one_of(st.none(), floats),
)
steps = st.builds(
    Step, st.integers(0, 1023), candidates, st.booleans(), distributions, st.none(), st.just(0.0)
)


def by_protobuf(tokenizer, step, delta, elapsed, choice):
    token, distribution = step.token, step.distribution
    return types.Step(
        index=step.index,
        choice=choice,
        id=token.token_id,
        token=tokenizer.token_text(token.token_id),
        bytes=tokenizer.token_bytes(token.token_id),
        logprob=token.logprob,
        rank=token.rank,
        prob=token.prob,
        delta=delta,
        top_logprobs=[candidate_message(tokenizer, told) for told in distribution.top],
        token_logprobs=[candidate_message(tokenizer, told) for told in distribution.chosen],
        full_logprobs=() if distribution.full is None else distribution.full.tolist(),
        surprisal=-token.logprob,
        forced=step.forced,
        allowed_mass=distribution.allowed_mass,
        elapsed_seconds=elapsed,
        **{name: getattr(distribution, name) for name in NUMBERS},
    )


@given(
    st.lists(
        st.tuples(steps, st.text(max_size=200), st.floats(0, 1e6), st.integers(0, 300)), max_size=3
    )
)
def test_steps_are_read_as_what_protobuf_writes(tokenizer, told):
    records = [record(*one) for one in told]
    encoded = StepBytes(tokenizer).steps(STEPS, records)
    message = pb.GenerateResponse.FromString(encoded)
    expected = pb.GenerateResponse(steps=[by_protobuf(tokenizer, *one) for one in told])
    deterministic = {"deterministic": True}
    assert message.SerializeToString(**deterministic) == expected.SerializeToString(**deterministic)


def test_a_step_with_a_whole_vocabulary_is_told_whole(tokenizer):
    full = np.linspace(-30, 0, 50257, dtype=np.float32)
    distribution = Distribution(Candidates(), Candidates(), 0.0, 0.0, 1.0, 0.0, full)
    step = Step(2, Candidate(5, -1.5, 1, 0.25, True), False, distribution, None, 0.0)
    # More than what there is room for at first.
    encoded = StepBytes(tokenizer).steps(STEPS, [record(step, "x", 0.5), record(step, "yz", 1.5)])
    message = pb.GenerateResponse.FromString(encoded)
    assert list(message.steps[0].full_logprobs) == full.tolist()
    assert list(message.steps) == [
        by_protobuf(tokenizer, step, "x", 0.5, 0),
        by_protobuf(tokenizer, step, "yz", 1.5, 0),
    ]


@given(st.lists(candidates, max_size=20), st.lists(candidates, max_size=3))
def test_candidates_alone_are_read_as_what_protobuf_writes(tokenizer, top, chosen):
    encoder = StepBytes(tokenizer)
    message = types.Step(index=3, delta="x")
    message.MergeFromString(
        encoder.candidates(10, Candidates.of(top)) + encoder.candidates(11, Candidates.of(chosen))
    )
    expected = types.Step(index=3, delta="x")
    for field, some in ((expected.top_logprobs, top), (expected.token_logprobs, chosen)):
        field.extend(candidate_message(tokenizer, told) for told in some)
    assert message.SerializeToString(deterministic=True) == expected.SerializeToString(
        deterministic=True
    )


def test_every_token_of_the_vocabulary_is_told_whole(tokenizer):
    encoder = StepBytes(tokenizer)
    told = [Candidate(token_id, -1.5, 1, 0.25, True) for token_id in range(50257)]
    message = types.Step()
    message.MergeFromString(encoder.candidates(10, Candidates.of(told)))
    assert list(message.top_logprobs) == [candidate_message(tokenizer, one) for one in told]


def test_of_ids_that_the_tokenizer_has_not_nothing_but_numbers_is_told(tokenizer):
    message = types.Step()
    told = Candidates.of([Candidate(60_000, -1.5, 1, 0.25, True)])
    message.MergeFromString(StepBytes(tokenizer).candidates(10, told))
    assert message.top_logprobs[0] == types.Candidate(
        id=60_000, logprob=-1.5, rank=1, prob=0.25, kept=True
    )
