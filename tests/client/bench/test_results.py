"""The figures, from exchanges whose times are known."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.loads import exchange

from nextok.bench.plan import Phase
from nextok.bench.results import Failures, percentile, spread_ms, summarize

_VALUES = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)


@given(_VALUES, st.floats(0, 100))
def test_percentiles_are_numpys(values, percent):
    ordered = sorted(values)
    expected = float(np.percentile(ordered, percent))
    assert percentile(ordered, percent) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(_VALUES)
def test_a_spread_is_numpys_in_milliseconds_whatever_the_order(values):
    shuffled = random.Random(0).sample(values, len(values))
    spread = spread_ms(shuffled)
    assert spread == spread_ms(values)
    assert spread.count == len(values)
    assert spread.mean == pytest.approx(1000 * np.mean(values))
    assert spread.max == pytest.approx(1000 * max(values))
    for name, percent in (("p50", 50), ("p90", 90), ("p99", 99)):
        assert getattr(spread, name) == pytest.approx(1000 * np.percentile(values, percent))


def test_of_nothing_there_is_no_spread():
    assert spread_ms([]) is None


def test_latencies_count_from_when_a_request_was_due_not_from_when_it_was_sent():
    late = exchange(5.0, 5.5, due=1.0, sent=4.0)
    results = summarize([late], end=5.5)
    assert results.ttft_ms.p50 == pytest.approx(4000)
    assert results.e2el_ms.p50 == pytest.approx(4500)
    assert results.send_delay_ms.max == pytest.approx(3000)


def test_gaps_are_between_tokens_and_0_within_a_message():
    one = exchange(1.0, 1.5, 2.5, counts=(2, 1, 3))
    assert one.gaps() == pytest.approx([0, 0.5, 1.0, 0, 0])
    assert summarize([one], end=3).tpot_ms.p50 == pytest.approx(1000 * 1.5 / 5)


def test_gaps_between_streams_are_none():
    results = summarize([exchange(1.0, 2.0), exchange(10.0, 11.0)], end=11)
    assert results.itl_ms.count == 2
    assert results.itl_ms.max == pytest.approx(1000)


def test_throughput_counts_every_token_that_came_while_it_was_measured_and_no_other():
    exchanges = [
        # Two of its tokens come before the first measured request is due, two after.
        exchange(8.0, 9.0, 11.0, 12.0, due=7.0, phase=Phase.WARMUP),
        exchange(13.0, 14.0, due=10.0),
        exchange(15.0, 20.0, due=12.0),
        # One token comes in time, one after the end.
        exchange(19.0, 21.0, due=18.0, phase=Phase.FILLER),
    ]
    results = summarize(exchanges, end=20.0)
    assert results.duration == pytest.approx(10)
    assert results.output_throughput == pytest.approx((2 + 2 + 2 + 1) / 10)
    # Everything else is of the two measured ones.
    assert results.request_throughput == pytest.approx(2 / 10)
    assert (results.completed, results.completion_tokens, results.prompt_tokens) == (2, 4, 16)
    assert results.ttft_ms.count == 2


def test_failures_are_counted_by_status_and_are_no_latencies():
    exchanges = [
        exchange(1.0, 2.0),
        exchange(status="RESOURCE_EXHAUSTED", ended=0.001),
        exchange(status="RESOURCE_EXHAUSTED", ended=0.001),
        exchange(status="UNAVAILABLE", ended=0.001),
        exchange(status="UNAVAILABLE", ended=0.001, phase=Phase.WARMUP),
    ]
    results = summarize(exchanges, end=2.0)
    assert (results.completed, results.failed, results.unfinished) == (1, 3, 0)
    assert results.errors == {
        "RESOURCE_EXHAUSTED": Failures(2, "about RESOURCE_EXHAUSTED"),
        "UNAVAILABLE": Failures(1, "about UNAVAILABLE"),
    }
    assert results.ttft_ms.count == results.e2el_ms.count == 1


def test_what_came_before_a_failure_counts():
    results = summarize([exchange(1.0, 3.0, status="INTERNAL")], end=3.0)
    assert results.ttft_ms.p50 == pytest.approx(1000)
    assert results.itl_ms.p50 == pytest.approx(2000)
    assert results.completion_tokens == 2
    assert results.e2el_ms is results.tpot_ms is results.queue_ms is None


def test_an_interrupted_request_is_neither_completed_nor_failed():
    results = summarize([exchange(1.0, 2.0), exchange(3.0, due=2.0, status="")], end=4.0)
    assert (results.completed, results.failed, results.unfinished) == (1, 0, 1)
    assert results.output_throughput == pytest.approx(3 / 4)
    assert results.ttft_ms.count == 2


def test_the_servers_own_counts_and_times_are_told():
    results = summarize(
        [exchange(1.0, cached=3, queue=0.5), exchange(1.0, cached=4, queue=1.5)], end=1.0
    )
    assert results.cached_tokens == 7
    assert results.queue_ms.mean == pytest.approx(1000)
    assert results.prefill_ms.p99 == pytest.approx(500)


def test_where_nothing_was_measured_there_is_no_figure_rather_than_a_0():
    results = summarize([exchange(1.0, phase=Phase.WARMUP)], end=5.0)
    assert results.duration == 0
    assert results.output_throughput is results.request_throughput is results.ttft_ms is None


def _one_at_a_time(due, seconds, stall_begin, stall_end):
    """When a server that answers one request after the other answers each of them."""
    free, answered = 0.0, []
    for arrival in due:
        start = max(arrival, free)
        if stall_begin <= start < stall_end:
            start = stall_end
        free = start + seconds
        answered.append(free)
    return answered


@given(
    st.lists(st.floats(0, 100), min_size=5, max_size=100).map(sorted),
    st.floats(0, 80),
    st.floats(5, 60),
)
def test_a_stall_is_in_the_wait_of_every_request_that_was_due_in_it(due, begin, length):
    answered = _one_at_a_time(due, 0.01, begin, begin + length)
    exchanges = [exchange(a, due=d) for d, a in zip(due, answered, strict=True)]
    results = summarize(exchanges, end=answered[-1])
    hit = [begin + length - d for d in due if begin <= d < begin + length]
    if hit:
        assert results.ttft_ms.max >= 1000 * max(hit)
    # A share of the arrivals that is over a tenth is over the 90th percentile.
    if len(hit) > len(due) / 10 + 1:
        assert results.ttft_ms.p90 >= 1000 * min(hit)
