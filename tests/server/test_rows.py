"""Tokens that compiled code chooses, beside what the sampler makes of the same rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nextok_kernels.sampling import Chooser
from support.rows import row_of

from nextok_server.distribution import advance, advance_at
from nextok_server.model import Distributions
from nextok_server.rows import Rows
from nextok_server.sampling import SamplingParams
from nextok_server.sequence import Outputs, Request, Sequence, StopParams

VOCABULARY = 40
GREEDY = SamplingParams(temperature=0)
STOP = StopParams(2)

# Few different values and many ties, or hardly any.
logits = st.one_of(
    st.lists(st.integers(-3, 3), min_size=VOCABULARY, max_size=VOCABULARY).map(np.array),
    st.lists(st.floats(-30, 30, width=32), min_size=VOCABULARY, max_size=VOCABULARY).map(np.array),
)
samplings = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.1, 0.7, 1.0, 2.0, 1e9]),
    top_k=st.sampled_from([0, 1, 5, 16, 39, 40, 100]),
    top_p=st.sampled_from([1.0, 0.9, 0.5, 0.01]),
    min_p=st.sampled_from([0.0, 0.05, 1.0]),
    seed=st.integers(0, 2**64 - 1),
)


def rows_of(values, k, sampling=GREEDY):
    rows = [row_of(row, sampling, k) for row in values]
    outputs = Distributions(
        logprobs=np.array([row.logprobs for row in rows], np.float32),
        top_logprobs=np.array([row.top_logprobs for row in rows], np.float32),
        top_ids=np.array([row.top_ids for row in rows]),
        entropy=np.array([row.entropy for row in rows], np.float32),
        logit_max=np.array([row.logit_max for row in rows], np.float32),
        temperature_mass=np.array([row.temperature_mass for row in rows], np.float32),
    )
    return Rows(outputs, Chooser())


def sequence(*, top=0, sampling=GREEDY, stop=STOP, **options):
    return Sequence(Request((1, 7), sampling, stop, Outputs(top=top, **options)), 100)


def assert_same(one, other):
    """Equal, but for the last bits of what C and NumPy compute with functions of their own."""
    assert one.token[:3] == other.token[:3]
    assert one.token.prob == pytest.approx(other.token.prob, rel=1e-6)
    for mine, its in zip(one.distribution.top, other.distribution.top, strict=True):
        assert mine[:3] == its[:3]
        assert mine.prob == pytest.approx(its.prob, rel=1e-6)
        assert mine.kept == its.kept
    assert one.distribution.entropy == other.distribution.entropy
    assert one.distribution.margin == other.distribution.margin
    assert one.distribution.top_mass == pytest.approx(other.distribution.top_mass, rel=1e-12)
    assert one.distribution.tail_mass == pytest.approx(other.distribution.tail_mass, abs=1e-12)
    assert (one.index, one.finish, one.forced) == (other.index, other.finish, other.forced)


@given(
    st.lists(logits, min_size=1, max_size=4),
    st.sampled_from([1, 2, 12, VOCABULARY]),
    st.integers(0, 15),
    samplings,
)
def test_a_token_is_chosen_as_the_sampler_chooses_it(values, k, top, sampling):
    rows = rows_of(values, k, sampling)
    for index in range(len(values)):
        mine, its = (sequence(top=top, sampling=sampling) for _ in range(2))
        assert_same(advance_at(mine, rows, index), advance(its, rows.at(index, sampling)))
        assert mine.tokens == its.tokens
        assert (mine.finished, mine.draws) == (its.finished, its.draws)


@given(logits, st.integers(0, 2**64 - 1), st.integers(0, 2**40))
def test_most_draws_are_settled_by_the_most_likely_tokens(values, seed, position):
    """Or the test above would compare the sampler with itself."""
    rows = rows_of([values], VOCABULARY)
    for sampling in (GREEDY, SamplingParams(seed=seed), SamplingParams(seed=seed, top_p=0.5)):
        assert rows.choose(0, sampling, position, 5) is not None


def test_what_the_most_likely_tokens_do_not_settle_is_left_to_the_sampler():
    rows = rows_of([np.zeros(VOCABULARY)], 4)
    outside = [rows.choose(0, SamplingParams(seed=seed), 0, 4) for seed in range(200)].count(None)
    assert 160 <= outside <= 195  # 36 of 40 tokens are outside
    assert rows.choose(0, SamplingParams(top_p=0.5), 0, 4) is None
    assert rows.choose(0, SamplingParams(top_k=5), 0, 4) is None
    assert rows.choose(0, SamplingParams(top_k=4), 0, 4) is not None
    tokens = set()
    for seed in range(200):
        drawn = sequence(sampling=SamplingParams(seed=seed))
        tokens.add(advance_at(drawn, rows, 0).token.token_id)
    assert len(tokens) > 30


@pytest.mark.parametrize(
    "other",
    [
        sequence(sampling=SamplingParams(temperature=0, logit_bias=((3, 50.0),))),
        sequence(sampling=SamplingParams(temperature=0, repetition_penalty=100.0)),
        sequence(stop=StopParams(3, min_tokens=2, eos_token_ids=frozenset({7}))),
        sequence(token_ids=(3,)),
        sequence(full=True),
    ],
)
def test_requests_that_ask_for_more_get_it(other):
    values = np.zeros(VOCABULARY)
    values[[7, 9]] = 5.0, 1.0
    step = advance_at(other, rows_of([values], 4), 0)
    if other.sampling.logit_bias:
        assert step.token.token_id == 3
    if other.sampling.repetition_penalty != 1 or other.request.stop.min_tokens:
        assert step.token.token_id == 9
    assert [c.token_id for c in step.distribution.chosen] == list(other.request.outputs.token_ids)
    assert (step.distribution.full is not None) == other.request.outputs.full


def test_where_there_is_but_one_candidate_the_margin_is_infinite():
    step = advance_at(sequence(top=3), rows_of([np.zeros(VOCABULARY)], 1), 0)
    assert step.distribution.margin == math.inf
    assert len(step.distribution.top) == 1
