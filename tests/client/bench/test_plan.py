"""The plan of a run: what depends on what."""

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.loads import settings

from nextok.bench.lengths import Lengths, parse_lengths
from nextok.bench.plan import Phase, plan

VOCABULARY = range(100, 1100)


def drawn(count=60, *, run=1, **changes):
    return list(islice(plan(settings(**changes), run=run, vocabulary=VOCABULARY), count))


@given(st.integers(0, 2**64 - 1), st.integers(1, 9))
def test_the_same_seed_and_run_make_the_same_plan(seed, run):
    changes = {"seed": seed, "prompt_tokens": Lengths(4, 9), "request_rate": 2.0, "streams": None}
    assert drawn(10, run=run, **changes) == drawn(10, run=run, **changes)


def test_the_plan_is_the_same_in_every_version_and_on_every_machine():
    request = drawn(3, prompt_tokens=parse_lengths("2:9"), request_rate=2.0, streams=None)[2]
    assert request.prompt == (513, 656, 930, 197, 552, 526, 430)
    assert request.max_tokens == 4
    assert request.arrival == pytest.approx(0.4509985407507506, rel=1e-12)


def test_lengths_and_arrivals_are_the_seeds_and_the_tokens_are_the_runs():
    changes = {
        "prompt_tokens": parse_lengths("lognormal:20,0.5,4,60"),
        "output_tokens": Lengths(1, 9),
        "streams": None,
        "request_rate": 3.0,
    }
    one, other = drawn(run=1, **changes), drawn(run=2, **changes)
    for a, b in zip(one, other, strict=True):
        assert (len(a.prompt), a.max_tokens, a.arrival) == (len(b.prompt), b.max_tokens, b.arrival)
        assert a.prompt != b.prompt
    reseeded = drawn(run=1, seed=1, **changes)
    assert [len(r.prompt) for r in reseeded] != [len(r.prompt) for r in one]
    assert [r.arrival for r in reseeded] != [r.arrival for r in one]


def test_warm_up_comes_first_and_fillers_never_end():
    phases = [request.phase for request in drawn(warmup=2, requests=3, count=9)]
    assert phases == [Phase.WARMUP] * 2 + [Phase.MEASURED] * 3 + [Phase.FILLER] * 4


def test_prompts_are_made_of_the_vocabulary_and_no_two_are_alike():
    prompts = [request.prompt for request in drawn()]
    assert len(set(prompts)) == len(prompts)
    assert all(len(prompt) == 8 and set(prompt) <= set(VOCABULARY) for prompt in prompts)


def test_the_share_of_prompts_that_is_asked_for_begins_with_one_prefix():
    changes = {"prefix_share": 0.25, "prefix_tokens": 6}
    prompts = [request.prompt for request in drawn(2000, **changes)]
    beginnings = [prompt[:6] for prompt in prompts]
    prefix = max(set(beginnings), key=beginnings.count)
    assert beginnings.count(prefix) / 2000 == pytest.approx(0.25, abs=0.03)
    assert all(len(prompt) == 8 for prompt in prompts)
    assert len(set(prompts)) == 2000
    # Every run has a prefix of its own, or it would be kept from the run before.
    assert not any(request.prompt[:6] == prefix for request in drawn(200, run=2, **changes))


def test_a_share_of_1_is_every_prompt():
    prompts = [request.prompt for request in drawn(prefix_share=1.0, prefix_tokens=7)]
    assert len({prompt[:7] for prompt in prompts}) == 1


def test_arrivals_are_a_poisson_process_of_the_rate():
    times = [request.arrival for request in drawn(5000, streams=None, request_rate=4.0)]
    gaps = [after - before for before, after in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    assert times[0] == 0.0
    assert mean == pytest.approx(1 / 4, rel=0.05)
    # Exponential gaps: the standard deviation is the mean, and e**-1 of them are longer than it.
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert variance**0.5 == pytest.approx(mean, rel=0.08)
    assert sum(gap > mean for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.03)


def test_another_rate_is_the_same_pattern_at_another_speed():
    slow, fast = (drawn(streams=None, request_rate=rate) for rate in (1.0, 8.0))
    assert [r.arrival for r in slow] == pytest.approx([8 * r.arrival for r in fast])
