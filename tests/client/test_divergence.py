"""Distributions and their distances, against NumPy in float64."""

import math
from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextok.divergence import divergence
from nextok.weighing import Settings, weigh

VOCABULARY = 50257


def random_logprobs(seed, size=VOCABULARY, spread=3.0):
    logits = np.random.default_rng(seed).normal(0, spread, size)
    return array("f", (logits - np.log(np.exp(logits).sum())).astype(np.float32))


def reference(logprobs, settings, counts=None):
    """What is drawn from, (V,), by the server's rules and NumPy."""
    logits = np.array(logprobs, np.float64)
    as_sent = lambda value: float(np.float32(value))  # noqa: E731
    for token_id, bias in settings.logit_bias.items():
        logits[token_id] += as_sent(bias)
    for token_id, count in (counts or {}).items():
        logits[token_id] -= as_sent(settings.presence_penalty)
        logits[token_id] -= as_sent(settings.frequency_penalty) * count
    order = np.argsort(-logits, kind="stable")
    kept = np.zeros(len(logits), bool)
    if settings.temperature == 0:
        kept[order[0]] = True
        return kept.astype(np.float64)
    inverse = float(np.float32(1 / as_sent(settings.temperature)))
    weights = np.exp((logits - logits.max()) * inverse)
    count = settings.top_k if 0 < settings.top_k < len(logits) else len(logits)
    cumulative = np.cumsum(weights[order[:count]])
    if settings.top_p < 1:
        target = as_sent(settings.top_p) * cumulative[-1]
        count = int(np.searchsorted(cumulative, target)) + 1
    kept[order[:count]] = True
    kept &= weights >= as_sent(settings.min_p)
    weights[~kept] = 0
    return weights / weights.sum()


def kl(p, q):
    kept = p > 0
    with np.errstate(divide="ignore"):
        return float(np.sum(p[kept] * (np.log(p[kept]) - np.log(q[kept]))))


SETTINGS = [
    Settings(),
    Settings(temperature=0.7),
    Settings(temperature=3.0),
    Settings(temperature=0),
    Settings(top_k=40),
    Settings(top_p=0.9),
    Settings(top_p=0.999, temperature=1.5),
    Settings(min_p=0.05),
    Settings(top_k=100, top_p=0.8, min_p=0.01, temperature=0.9),
    Settings(logit_bias={5: 4.5, 77: -100}, presence_penalty=1.5, frequency_penalty=0.25),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_what_is_drawn_from_is_what_numpy_says(settings):
    logprobs, counts = random_logprobs(1), {3: 2, 5: 1, 9: 7}
    weighed = weigh(logprobs, settings, counts)
    expected = reference(logprobs, settings, counts)
    assert np.allclose(weighed.probs(range(VOCABULARY)), expected, rtol=1e-11, atol=1e-300)


@pytest.mark.parametrize("mine", SETTINGS, ids=str)
@pytest.mark.parametrize("other", [SETTINGS[0], SETTINGS[1], SETTINGS[4], SETTINGS[8]], ids=str)
def test_divergences_are_what_numpy_says(mine, other):
    a, b = random_logprobs(2, 5000), random_logprobs(3, 5000)
    p, q = reference(a, mine), reference(b, other)
    found = divergence(weigh(a, mine), weigh(b, other))
    middle = (p + q) / 2
    assert found.kl == pytest.approx(kl(p, q), rel=1e-9)
    assert found.reverse_kl == pytest.approx(kl(q, p), rel=1e-9)
    assert found.js == pytest.approx((kl(p, middle) + kl(q, middle)) / 2, rel=1e-9)


def test_the_whole_vocabulary_is_looked_at():
    a, b = random_logprobs(4), random_logprobs(5, spread=0.5)
    p, q = reference(a, Settings()), reference(b, Settings())
    found = divergence(weigh(a, Settings()), weigh(b, Settings()))
    assert found.kl == pytest.approx(kl(p, q), rel=1e-10)
    assert 0 < found.js < math.log(2)


def test_a_distribution_is_no_distance_from_itself():
    weighed = weigh(random_logprobs(6), Settings())
    found = divergence(weighed, weighed)
    assert found.kl == found.reverse_kl == 0
    assert found.js == pytest.approx(0, abs=1e-12)


def test_what_shares_no_token_is_as_far_apart_as_can_be():
    logprobs = random_logprobs(7, 100)
    best = max(range(100), key=logprobs.__getitem__)
    here = weigh(logprobs, Settings(temperature=0))
    there = weigh(logprobs, Settings(temperature=0, logit_bias={best: -100}))
    found = divergence(here, there)
    assert found.kl == found.reverse_kl == math.inf
    assert found.js == pytest.approx(math.log(2))


def test_of_equals_the_lower_id_is_kept():
    logprobs = array("f", [math.log(0.25)] * 4)
    assert weigh(logprobs, Settings(temperature=0)).ids == [0]
    assert weigh(logprobs, Settings(top_k=2)).ids == [0, 1]
    assert weigh(logprobs, Settings(top_p=0.6)).ids == [0, 1, 2]


@given(
    st.lists(st.floats(-60, 0, width=32), min_size=2, max_size=30),
    st.lists(st.floats(-60, 0, width=32), min_size=30, max_size=30),
    st.builds(
        Settings,
        temperature=st.sampled_from([0, 0.1, 1, 2.5]),
        top_k=st.integers(0, 8),
        top_p=st.sampled_from([0.3, 0.95, 1]),
        min_p=st.sampled_from([0, 0.2, 1]),
    ),
)
def test_whatever_the_settings_distances_are_distances(a, b, settings):
    b = b[: len(a)]
    found = divergence(weigh(a, settings), weigh(b, Settings()))
    back = divergence(weigh(b, Settings()), weigh(a, settings))
    assert found.kl >= 0
    assert (found.kl, found.reverse_kl) == pytest.approx((back.reverse_kl, back.kl))
    assert found.js == pytest.approx(back.js)
    assert 0 <= found.js <= math.log(2) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"temperature": -1}, "temperature: is -1, the range is 0 to 100"),
        ({"top_p": 0}, "top_p: is 0, the range is over 0 to 1"),
        ({"min_p": math.nan}, "min_p: is nan, the range is 0 to 1"),
        ({"logit_bias": {3: 101}}, r"logit_bias\[3\]: is 101, the range is -100 to 100"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong, said):
    with pytest.raises(ValueError, match=said):
        Settings(**wrong)
