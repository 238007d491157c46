"""What is told of a token: its places and probabilities, and the greedy choice."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import row_of

from nextok_server.candidates import Candidate
from nextok_server.sampling import (
    Occurrences,
    SamplingParams,
    candidates,
    filter_row,
    rank_of,
    sample,
    top_candidates,
)

VOCABULARY = 300

# Few different values: many ties.
logits = st.lists(st.integers(-3, 3), min_size=VOCABULARY, max_size=VOCABULARY).map(np.array)


@pytest.mark.parametrize("k", [1, 2, 64])
def test_greedy_ties_go_to_the_lower_id_also_after_bias(k):
    values = np.zeros(VOCABULARY)
    values[[30, 20, 200]] = 5
    params = SamplingParams(temperature=0)
    row = row_of(values, params, k)
    assert sample(row, params, filter_row(row, params), 0).token_id == 20
    banned = filter_row(row, params, banned=np.array([20]))
    assert sample(row, params, banned, 0).token_id == 30
    biased = SamplingParams(temperature=0, logit_bias=((12, 7.0), (10, 7.0)))
    chosen = sample(row, biased, filter_row(row, biased), 0)
    assert (chosen.token_id, chosen.prob, chosen.kept, chosen.rank) == (10, 1, True, 14)


@pytest.mark.parametrize("count", [1, 3, 40])
@given(logits, st.sampled_from([1, 16, VOCABULARY]), st.randoms(use_true_random=False))
def test_ranks_count_the_more_likely_tokens_and_ties_by_id(count, values, k, random):
    row = row_of(values, SamplingParams(), k)
    order = sorted(range(VOCABULARY), key=lambda i: (-row.logprobs[i], i))
    ids = random.choices(range(VOCABULARY), k=count)
    ranks = rank_of(row, np.array(ids))
    assert ranks.tolist() == [order.index(token) + 1 for token in ids]


def test_candidates_have_both_probabilities_in_the_order_asked_for():
    values = np.full(VOCABULARY, -20.0)
    values[[8, 5, 6]] = [3.0, 2.0, 1.0]
    params = SamplingParams(top_k=2)
    row = row_of(values, params, 64)
    filtered = filter_row(row, params)
    top = top_candidates(row, filtered, 3)
    assert [c.token_id for c in top] == [8, 5, 6]
    assert [c.rank for c in top] == [1, 2, 3]
    assert [c.kept for c in top] == [True, True, False]
    assert [c.prob for c in top] == pytest.approx([1 / (1 + math.e**-1), 1 / (1 + math.e), 0])
    assert [c.logprob for c in top] == [float(row.logprobs[token]) for token in (8, 5, 6)]
    assert list(candidates(row, filtered, [6, 8, 5])) == [top[2], top[0], top[1]]
    assert list(candidates(row, filtered, [])) == []
    (last,) = candidates(row, filtered, [0])
    assert last == Candidate(0, float(row.logprobs[0]), 4, 0.0, False)


def test_occurrences_count_the_completion_and_know_the_prompt():
    occurrences = Occurrences.of([9, 4, 9], [2, 4, 2])
    assert occurrences.seen_ids.tolist() == [2, 4, 9]
    assert occurrences.generated_ids.tolist() == [2, 4]
    assert occurrences.generated_counts.tolist() == [2, 1]
    assert Occurrences.of([], []).seen_ids.tolist() == []
