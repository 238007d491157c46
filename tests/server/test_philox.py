"""The draws' random numbers, against NumPy's generator and basic statistics."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextok_server.sampling import uniform

words = st.integers(0, 2**64 - 1)


@given(words, st.integers(0, 2**63), words)
def test_it_is_numpys_philox_at_that_place(seed, position, stream):
    key = np.array([seed, stream], np.uint64)
    oracle = np.random.Generator(np.random.Philox(key=key, counter=position))
    assert uniform(seed, position, stream) == oracle.random()


def numbers(kind: str) -> np.ndarray:
    places = {
        "positions": ((7, n, 0) for n in range(20_000)),
        "seeds": ((n, 3, 0) for n in range(20_000)),
        "streams": ((7, 3, n) for n in range(20_000)),
    }
    return np.array([uniform(*place) for place in places[kind]])


@pytest.mark.parametrize("kind", ["positions", "seeds", "streams"])
def test_neighbouring_numbers_are_uniform_and_not_correlated(kind):
    values = numbers(kind)
    assert values.min() >= 0
    assert values.max() < 1
    bins = 100
    counts = np.bincount((values * bins).astype(int), minlength=bins)
    expected = len(values) / bins
    chi_square = ((counts - expected) ** 2 / expected).sum()
    # Mean and variance of chi-square with 99 degrees are 99 and 198: within 5 deviations.
    assert abs(chi_square - 99) < 5 * math.sqrt(198)
    for lag in (1, 2, 3):
        correlation = np.corrcoef(values[:-lag], values[lag:])[0, 1]
        assert abs(correlation) < 5 / math.sqrt(len(values))
