"""What is told of all rows of a step at once, beside what is told of each."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import row_of

from nextok_server.distribution import advance, advance_at
from nextok_server.model import Distributions
from nextok_server.rows import Rows
from nextok_server.sampling import SamplingParams
from nextok_server.sequence import Outputs, Request, Sequence, StopParams

VOCABULARY = 40
GREEDY = SamplingParams(temperature=0)

# Few different values: many ties.
logits = st.lists(st.integers(-3, 3), min_size=VOCABULARY, max_size=VOCABULARY).map(np.array)


def rows_of(values, k):
    rows = [row_of(row, GREEDY, k) for row in values]
    return Rows(
        Distributions(
            logprobs=np.array([row.logprobs for row in rows], np.float32),
            top_logprobs=np.array([row.top_logprobs for row in rows], np.float32),
            top_ids=np.array([row.top_ids for row in rows]),
            entropy=np.array([row.entropy for row in rows], np.float32),
            logit_max=np.array([row.logit_max for row in rows], np.float32),
            temperature_mass=np.array([row.temperature_mass for row in rows], np.float32),
        )
    )


def sequence(*, top=0, sampling=GREEDY, stop=StopParams(2), **options):  # noqa: B008
    return Sequence(Request((1, 7), sampling, stop, Outputs(top=top, **options)), 100)


@given(st.lists(logits, min_size=1, max_size=4), st.integers(1, 12), st.integers(0, 15))
def test_a_greedy_step_is_the_same_from_all_rows_and_from_its_own(values, k, top):
    rows = rows_of(values, k)
    for index in range(len(values)):
        together, alone = sequence(top=top), sequence(top=top)
        steps = [advance_at(together, rows, index), advance(alone, rows.at(index, GREEDY))]
        for step in steps:
            step.at = 0.0
        assert steps[0] == steps[1]
        assert together.tokens == alone.tokens == [1, 7, int(np.argmax(values[index]))]
        assert (together.finished, together.draws) == (alone.finished, alone.draws)


@pytest.mark.parametrize(
    "other",
    [
        sequence(sampling=SamplingParams(temperature=0, logit_bias=((3, 50.0),))),
        sequence(sampling=SamplingParams(temperature=0, repetition_penalty=100.0)),
        sequence(top=3, sampling=SamplingParams(temperature=1, top_k=3)),
        sequence(stop=StopParams(3, min_tokens=2, eos_token_ids=frozenset({7}))),
        sequence(token_ids=(3,)),
        sequence(full=True),
    ],
)
def test_requests_that_ask_for_more_get_it(other):
    values = np.zeros(VOCABULARY)
    values[[7, 9]] = 5.0, 1.0
    rows = rows_of([values], 4)
    step = advance_at(other, rows, 0)
    params = other.sampling
    if params.logit_bias:
        assert step.token.token_id == 3
    if params.repetition_penalty != 1 or other.request.stop.min_tokens:
        assert step.token.token_id == 9
    if params.top_k:
        probs = [math.exp(value) for value in (5, 1, 0)]
        assert [c.prob for c in step.distribution.top] == pytest.approx(
            [prob / sum(probs) for prob in probs], rel=1e-6
        )
    assert [c.token_id for c in step.distribution.chosen] == list(other.request.outputs.token_ids)
    assert (step.distribution.full is not None) == other.request.outputs.full
