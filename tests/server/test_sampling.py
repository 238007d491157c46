"""Sampling against a plain float64 implementation that sorts everything, and against chance."""

import itertools
import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import row_of

from nextok_server import logits as logits_module
from nextok_server import sampling
from nextok_server.masks import Mask
from nextok_server.sampling import Occurrences, SamplingParams, filter_row, sample, uniform

VOCABULARY = 300


class Reference:
    """The documented formulas, one after the other, over a list of all tokens."""

    def __init__(self, row, params, prompt=(), generated=(), banned=(), mask=None):
        logits = row.logprobs.astype(np.float64) + (row.logit_max - float(row.logprobs.max()))
        for token, bias in params.logit_bias:
            logits[token] += bias
        for token in {*prompt, *generated}:
            penalty = params.repetition_penalty
            logits[token] = (
                logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
            )
        for token in set(generated):
            logits[token] -= params.presence_penalty
            logits[token] -= params.frequency_penalty * list(generated).count(token)
        allowed = [
            i for i in range(len(logits)) if i not in set(banned) and (mask is None or mask[i])
        ]
        # Ties are ties in float32's resolution of the input, not in the last bit of a sum.
        self.order = sorted(allowed, key=lambda i: (-round(logits[i], 11), i))
        self.logits = logits
        self.near_cut = False
        kept = self.order[:1] if params.temperature == 0 else self._filter(params)
        self.kept = set(kept)
        self.probs = np.zeros(len(logits))
        temperature = params.temperature or 1.0
        self.probs[kept] = self._softmax(kept, temperature)

    def _softmax(self, tokens, temperature):
        scaled = self.logits[tokens] / temperature
        weights = np.exp(scaled - scaled.max())
        return weights / weights.sum()

    def _filter(self, params):
        tokens = self.order[: params.top_k] if params.top_k else self.order
        if params.top_p < 1:
            sums = list(itertools.accumulate(self._softmax(tokens, params.temperature)))
            count = next((n for n, s in enumerate(sums, 1) if s >= params.top_p), len(sums))
            # Which side of a cut a sum falls on is not defined closer than its rounding.
            self.near_cut |= any(abs(s - params.top_p) < 1e-9 for s in sums)
            tokens = tokens[:count]
        if params.min_p > 0:
            probs = self._softmax(tokens, params.temperature)
            bound = params.min_p * probs[0]
            self.near_cut |= any(abs(p - bound) < 1e-9 * bound for p in probs[1:] if p != probs[0])
            tokens = [t for t, p in zip(tokens, probs, strict=True) if p >= bound * (1 - 1e-12)]
        return tokens


@st.composite
def parameters(draw) -> SamplingParams:
    tokens = st.integers(0, VOCABULARY - 1)
    amounts = st.sampled_from([-100.0, -1.5, 0.25, 3.0, 100.0])
    return SamplingParams(
        temperature=draw(st.sampled_from([0.0, 1e-3, 0.3, 0.8, 1.0, 1.7, 100.0])),
        top_k=draw(st.sampled_from([0, 0, 1, 5, 40, 64, 65, 150, VOCABULARY, 1000])),
        top_p=draw(st.sampled_from([1.0, 1.0, 1e-6, 0.3, 0.9, 0.95, 0.9999])),
        min_p=draw(st.sampled_from([0.0, 0.0, 1e-6, 0.05, 0.5, 1.0])),
        repetition_penalty=draw(st.sampled_from([1.0, 1.0, 0.7, 1.3, 100.0])),
        presence_penalty=draw(st.sampled_from([0.0, 0.0, -1.0, 0.5, 100.0])),
        frequency_penalty=draw(st.sampled_from([0.0, 0.0, -0.5, 0.7])),
        logit_bias=tuple(draw(st.dictionaries(tokens, amounts, max_size=4)).items()),
    )


@st.composite
def logits(draw) -> np.ndarray:
    """Rows from flat to peaked, some with many ties, some with a tie at the top."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = generator.normal(draw(st.sampled_from([-40.0, 0.0, 20.0])), 1.0, VOCABULARY)
    values = values * draw(st.sampled_from([0.0, 0.1, 1.0, 3.0]))
    if draw(st.booleans()):
        values = np.round(values)
    return values


@st.composite
def situations(draw):
    """A row's logits, parameters, and everything else that a step may come with."""
    tokens = st.lists(st.integers(0, VOCABULARY - 1), max_size=8)
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    mask = generator.random(VOCABULARY) < draw(st.sampled_from([0.03, 0.3, 0.5, 0.95]))
    # A few of the tokens that matter most, besides any.
    values = draw(logits())
    likely = [int(i) for i in np.argsort(-values)[: draw(st.integers(0, 3))]]
    return {
        "logits": values,
        "params": draw(parameters()),
        "prompt": draw(tokens) + likely,
        "generated": draw(tokens) + likely * 2,
        "banned": draw(st.sampled_from([[], [], [7, 7, 250], likely])),
        "mask": draw(st.sampled_from([None, None, mask])),
        # From no mask's to every mask's tokens are sorted rather than looked up.
        "sorted_pool": draw(st.sampled_from([0, 20, VOCABULARY])),
    }


def filtered_of(situation, k):
    params = situation["params"]
    row = row_of(situation["logits"], params, k)
    banned = np.array(situation["banned"], np.int64) if situation["banned"] else None
    occurrences = Occurrences.of(situation["prompt"], situation["generated"])
    mask = situation["mask"] if situation["mask"] is None else Mask.of(situation["mask"])
    with mock.patch.object(logits_module, "_SORTED_POOL", situation["sorted_pool"]):
        return row, filter_row(row, params, occurrences=occurrences, banned=banned, mask=mask)


def reference_of(situation, row):
    rest = {name: situation[name] for name in ("prompt", "generated", "banned", "mask")}
    return Reference(row, situation["params"], **rest)


EVERY = np.arange(VOCABULARY)


@given(situations(), st.sampled_from([1, 2, 16, 64, VOCABULARY]))
def test_probabilities_equal_the_plain_implementations(situation, k):
    reference = reference_of(situation, row_of(situation["logits"], situation["params"], k))
    if not reference.order:
        with pytest.raises(ValueError, match="no token is left"):
            filtered_of(situation, k)
        return
    _, filtered = filtered_of(situation, k)
    probs, kept = filtered.probs(EVERY)
    assert probs.sum() == pytest.approx(1, abs=1e-5)
    if not reference.near_cut:
        assert set(np.flatnonzero(kept)) == reference.kept
        # float32's 1 / temperature and sum over the vocabulary are in these.
        np.testing.assert_allclose(probs, reference.probs, rtol=2e-5, atol=1e-9)


@given(situations(), st.sampled_from([1, 2, 16, 64]))
def test_what_the_graph_lists_and_the_whole_row_lead_to_the_same(situation, k):
    if not reference_of(situation, row_of(situation["logits"], situation["params"], k)).order:
        return
    some, some_kept = filtered_of(situation, k)[1].probs(EVERY)
    every, every_kept = filtered_of(situation, VOCABULARY)[1].probs(EVERY)
    reference = reference_of(situation, row_of(situation["logits"], situation["params"], k))
    if not reference.near_cut:
        assert (some_kept == every_kept).all()
    np.testing.assert_allclose(some, every, rtol=2e-6, atol=1e-12)


@given(situations(), st.sampled_from([1, 16, 64, VOCABULARY]), st.floats(0, 1, exclude_max=True))
def test_a_draw_is_a_kept_token_at_its_place_in_the_documented_order(situation, k, u):
    reference = reference_of(situation, row_of(situation["logits"], situation["params"], k))
    if not reference.order:
        return
    _, filtered = filtered_of(situation, k)
    token = filtered.draw(u)
    probs, kept = filtered.probs(EVERY)
    assert kept[token]
    assert probs[token] > 0
    head = filtered.head_ids.tolist()
    assert head == [i for i in reference.order if i in set(head)]
    order = head + [int(i) for i in np.flatnonzero(kept) if i not in set(head)]
    sums = np.cumsum(probs[order])
    place = order.index(token)
    assert sums[place] >= u - 1e-5
    assert sums[place] - probs[token] <= u + 1e-5


@pytest.mark.parametrize("u", [0.0, 0.5, 1 - 2**-53])
@pytest.mark.parametrize("k", [1, 64, VOCABULARY])
def test_all_but_one_banned_leaves_that_one(k, u):
    params = SamplingParams(temperature=0.5)
    row = row_of(np.linspace(0, 30, VOCABULARY), params, k)
    filtered = filter_row(row, params, banned=np.delete(EVERY, 3))
    assert filtered.draw(u) == 3
    assert filtered.probs(np.array([3, 4]))[0].tolist() == [1, 0]


def test_what_a_ban_leaves_of_a_peaked_row_keeps_its_precision():
    values = np.random.default_rng(3).normal(0, 1, VOCABULARY)
    values[40] = 22.0
    params = SamplingParams()
    row = row_of(values, params, 16)
    probs, _ = filter_row(row, params, banned=np.array([40])).probs(EVERY)
    np.testing.assert_allclose(probs, Reference(row, params, banned=[40]).probs, rtol=1e-9)


def test_nothing_left_to_choose_from_is_an_error():
    params = SamplingParams()
    row = row_of(np.zeros(VOCABULARY), params, 64)
    with pytest.raises(ValueError, match="no token is left"):
        filter_row(row, params, banned=EVERY)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0),
        SamplingParams(temperature=0.8, top_k=40, top_p=0.95),
        SamplingParams(min_p=0.2),
        SamplingParams(temperature=0.8, top_p=0.9, frequency_penalty=0.5),
        SamplingParams(temperature=0.8, top_p=0.9, logit_bias=((3, 2.0), (290, -100.0))),
    ],
)
def test_common_requests_never_pass_over_the_whole_row(params, monkeypatch):
    def refuse(*_):
        raise AssertionError("passed over the whole row")

    monkeypatch.setattr(sampling, "cut_row", refuse)
    monkeypatch.setattr(sampling.Filtered, "_tail", refuse)
    values = np.random.default_rng(1).normal(0, 1, VOCABULARY)
    values[:20] += np.linspace(9, 3, 20)
    row = row_of(values, params, 64)
    filtered = filter_row(
        row, params, occurrences=Occurrences.of([1, 5], [5, 250]), banned=np.array([299])
    )
    for position in range(50):
        assert sample(row, params, filtered, position).prob > 0


def assert_draws_follow(probs, filtered):
    draws = 4000
    counts = np.zeros(len(probs))
    for position in range(draws):
        counts[filtered.draw(uniform(99, position))] += 1
    expected = probs * draws
    assert (counts[expected == 0] == 0).all()
    # Chi-square wants at least 5 expected in each bin: the rare tokens share one.
    common = expected >= 5
    observed = [*counts[common], counts[~common].sum()]
    wanted = [*expected[common], expected[~common].sum()]
    terms = [(o - w) ** 2 / w for o, w in zip(observed, wanted, strict=True) if w > 0]
    degrees = len(terms) - 1
    assert sum(terms) < degrees + 4 * math.sqrt(2 * degrees)


@pytest.mark.parametrize("k", [4, 64])
@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.7, top_k=20),
        SamplingParams(temperature=1.3, top_p=0.8),
        SamplingParams(min_p=0.1, logit_bias=((2, 1.5),)),
    ],
)
def test_draws_follow_the_probabilities(params, k):
    values = np.random.default_rng(5).normal(0, 1.5, 100)
    row = row_of(values, params, k)
    filtered = filter_row(row, params)
    assert_draws_follow(Reference(row, params).probs, filtered)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.95])
def test_masked_draws_follow_the_probabilities_of_what_is_left(share):
    values = np.random.default_rng(6).normal(0, 2, VOCABULARY)
    allowed = np.random.default_rng(7).random(VOCABULARY) < share
    params = SamplingParams(temperature=0.9)
    row = row_of(values, params, 16)
    filtered = filter_row(row, params, mask=Mask.of(allowed))
    assert_draws_follow(Reference(row, params, mask=allowed).probs, filtered)


def test_a_draw_depends_on_seed_position_and_stream_alone():
    params = SamplingParams(temperature=1.2, seed=2**63 + 11)
    row = row_of(np.random.default_rng(2).normal(0, 2, VOCABULARY), params, 64)

    def text(params, stream=0):
        return [
            sample(row, params, filter_row(row, params), position, stream).token_id
            for position in range(40)
        ]

    assert text(params) == text(params)
    assert text(params) != text(params, stream=1)
    assert text(params) != text(SamplingParams(temperature=1.2, seed=2**63 + 12))
