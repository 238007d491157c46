from __future__ import annotations

import pytest

from bench import summary
from bench.job import Job, Outcome

TWO = Job([[1] * 64, [2] * 64], output_tokens=3)


def test_the_decode_rate_counts_what_comes_after_the_last_streams_first_token():
    outcome = Outcome([[1.0, 2.0, 4.0], [3.0, 4.0, 5.0]], [[7, 7, 7], [7, 7, 7]])
    figures = outcome.figures(TWO)
    assert figures["decode"] == pytest.approx(3 / 2)
    assert figures["whole"] == pytest.approx(6 / 5)
    assert (figures["first_token"], figures["last_first_token"]) == (2.0, 3.0)


def test_rates_by_context_are_named_by_the_context_at_their_end():
    job = Job([[1] * 10], output_tokens=130)
    times = [0.01 * (i + 1) for i in range(65)] + [0.65 + 0.02 * (i + 1) for i in range(65)]
    figures = Outcome.in_step(times, [[0] * 130]).figures(job)
    assert figures["rate_at_74"] == pytest.approx(100)
    assert figures["rate_at_138"] == pytest.approx(50)


def test_an_outcome_with_another_number_of_tokens_is_refused():
    with pytest.raises(ValueError, match="asked for 3 tokens"):
        Outcome([[1.0, 2.0, 3.0], [1.0]], [[1, 2, 3], [1]]).check(TWO)


def test_ratios_are_paired_round_by_round_and_more_is_always_faster():
    ours = [[{"a": {"decode": 20.0, "first_token": 1.0}}], [{"a": {"decode": 90.0}}]]
    theirs = [[{"b": {"decode": 10.0, "first_token": 3.0}}], [{"b": {"decode": 30.0}}]]
    times = summary.paired(ours, "a", theirs, "b")
    assert (times["decode"]["least"], times["decode"]["largest"]) == (2.0, 3.0)
    assert times["first_token"]["median"] == 3.0


def test_a_go_that_lacks_one_of_the_two_is_left_out():
    ours = [[{"a": {"decode": 20.0}}, {"a": {"decode": 50.0}}], [{"a": {"decode": 90.0}}]]
    theirs = [[{}, {"b": {"decode": 25.0}}], [{"b": {"decode": 30.0}}]]
    times = summary.paired(ours, "a", theirs, "b")["decode"]
    assert (times["goes"], times["least"], times["largest"]) == (2, 2.0, 3.0)


def test_the_first_go_of_a_round_is_held_against_the_other_scenarios_of_that_round():
    ours = [[{"a": {"decode": 20.0}}, {"a": {"decode": 1.0}}], [{"a": {"decode": 90.0}}]]
    theirs = [[{"b": {"decode": 10.0}}], [{"b": {"decode": 30.0}}]]
    times = summary.paired(ours, "a", theirs, "b")["decode"]
    assert (times["goes"], times["least"], times["largest"]) == (2, 2.0, 3.0)


def test_nextok_is_compared_at_equal_precision():
    rates = {"nextok-int8": 4.0, "openvino-int8": 2.0, "openvino-int4": 8.0}
    rounds = {"streams_8": [[{name: {"decode": rate} for name, rate in rates.items()}]]}
    precisions = {name: name.rpartition("-")[2] for name in rates}
    pairs = [(r["ours"], r["theirs"]) for r in summary.ratios(rounds, precisions)]
    assert pairs == [("nextok-int8", "openvino-int8")]


WEIGHTS = {"a": 50_000_000, "b": 1, "memory": 100_000_000}


def test_the_memory_floor_is_the_weights_over_the_bandwidth():
    rounds = [[{"a": {"decode": 100.0}, "memory": {"decode": 100.0}}]]
    assert summary.bandwidth(WEIGHTS, rounds)["median"] == 10.0
    assert summary.memory_floor(WEIGHTS, rounds) == {
        "a": {"milliseconds": 10.0, "floor": 5.0, "share": 0.5}
    }


def test_a_go_in_which_memory_is_slow_is_held_against_that_memory():
    fast = {"a": {"decode": 100.0}, "memory": {"decode": 100.0}}
    slow = {"a": {"decode": 50.0}, "memory": {"decode": 50.0}}
    floor = summary.memory_floor(WEIGHTS, [[fast, slow], [fast, {"a": {"decode": 1.0}}]])
    assert floor == {"a": {"milliseconds": 10.0, "floor": 5.0, "share": 0.5}}


def test_there_is_no_floor_where_memory_was_not_read():
    rounds = [[{"a": {"decode": 100.0}}]]
    assert summary.bandwidth({"a": 1}, rounds) is None
    assert summary.memory_floor({"a": 1}, rounds) == {}
