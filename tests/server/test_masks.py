"""What a mask leaves in of a distribution, against float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextok_server.masks import Mask

VOCABULARY = 5000


def logprobs_of(seed: int, spread: float) -> np.ndarray:
    """Float32 log probabilities, of which a few hold nearly everything where they are spread."""
    logits = np.random.default_rng(seed).normal(0, spread, VOCABULARY)
    shifted = logits - logits.max()
    return (shifted - np.log(np.exp(shifted).sum())).astype(np.float32)


@given(
    st.integers(0, 1000),
    st.sampled_from([0.1, 2.0, 8.0]),
    st.sampled_from([0.0, 0.001, 0.4, 0.6, 0.999, 1.0]),
    st.booleans(),
)
def test_the_allowed_mass_is_the_float64_sum_over_the_allowed_tokens(
    seed, spread, share, likeliest
):
    logprobs = logprobs_of(seed, spread)
    allowed = np.random.default_rng(seed + 1).random(VOCABULARY) < share
    # What is left may be hardly anything, or hardly anything may be missing.
    allowed[np.argsort(-logprobs)[:100]] = likeliest
    exact = np.exp(logprobs[allowed].astype(np.float64)).sum()
    # In float32 the whole adds up to 1 within 1e-6.
    assert Mask.of(allowed).mass(logprobs) == pytest.approx(exact, rel=2e-6, abs=0)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_a_mask_lists_the_fewer_of_the_allowed_and_the_removed_tokens(share):
    allowed = np.random.default_rng(3).random(VOCABULARY) < share
    mask = Mask.of(allowed)
    listed = np.zeros(VOCABULARY, np.bool_)
    listed[mask.ids] = True
    assert (listed == (allowed if mask.is_sparse else ~allowed)).all()
    assert 2 * len(mask.ids) <= VOCABULARY
    assert mask.is_empty == (not allowed.any())


def test_a_mask_without_some_tokens_leaves_the_first_one_as_it_was():
    mask = Mask.of(np.ones(VOCABULARY, np.bool_))
    fewer = mask.without(frozenset({1, 4999}))
    assert np.flatnonzero(~fewer.allowed).tolist() == [1, 4999]
    assert mask.allowed.all()
