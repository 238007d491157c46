"""How many steps share a message, and that none is late for it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.serving import generate, running_server

from nextok_server.candidates import Candidate, Candidates
from nextok_server.events import Distribution, FinishReason, PromptScore, Step
from nextok_server.pacing import Pacing
from nextok_server.sampling import SamplingParams
from nextok_server.sequence import Request, Sequence, StopParams

INTERVAL = 0.15
NOTHING = Distribution(Candidates(), Candidates(), 0.0, 0.0, 0.0, 0.0, None)


def step(index, finish=None):
    return Step(index, Candidate(5, -1.0, 1, 1.0, True), False, NOTHING, finish, 0.0)


def sequences(count, window=1000):
    made = [
        Sequence(Request((1,), SamplingParams(), StopParams(100)), window) for _ in range(count)
    ]
    for slot, sequence in enumerate(made):
        sequence.slot = slot
    return made


@given(st.integers(1, 40), st.lists(st.floats(0.0001, 0.03), min_size=1, max_size=60))
def test_every_step_is_told_once_in_order_and_soon(streams, durations):
    pacing, some = Pacing(INTERVAL), sequences(streams)
    told = {sequence: [] for sequence in some}
    last_told = dict.fromkeys(some, 0.0)
    now = 1.0
    for index, duration in enumerate(durations):
        now += duration
        finish = FinishReason.LENGTH if index == len(durations) - 1 else None
        for sequence, events in pacing.due([(s, [step(index, finish)]) for s in some], now):
            told[sequence] += [event.index for event in events]
            last_told[sequence] = now
        # The first step is told at once, and no later one waits for long.
        assert min(map(len, told.values())) >= 1
        assert all(now - at <= INTERVAL + duration for at in last_told.values())
    assert all(indices == [*range(len(durations))] for indices in told.values())


def messages(streams, step_seconds):
    """Messages that each of so many streams gets in a second."""
    pacing, some = Pacing(INTERVAL), sequences(streams)
    count = 0
    steps = round(1 / step_seconds)
    for index in range(steps):
        count += len(pacing.due([(s, [step(index)]) for s in some], 1 + index * step_seconds))
    return count / streams


def test_one_stream_is_told_often_and_each_of_many_seldom():
    assert 27 < messages(1, 0.002) <= 31
    assert messages(1, 0.04) == 25
    assert 6 < messages(32, 0.012) <= 8
    assert messages(8, 0.0625) == 16


def test_readers_that_began_together_are_told_at_different_times():
    pacing, some = Pacing(INTERVAL), sequences(32)
    counts = [len(pacing.due([(s, [step(i)]) for s in some], 1 + i * 0.01)) for i in range(1, 30)]
    assert counts[0] == 32
    assert max(counts[1:]) <= 16


def test_a_sequence_that_pauses_or_tells_of_its_prompt_keeps_nothing_back():
    pacing = Pacing(INTERVAL)
    (pausing,) = sequences(1, window=3)
    (scoring,) = sequences(1)
    for index in range(3):
        pausing.produced += 1
        told = pacing.due([(pausing, [step(index)]), (scoring, [PromptScore(index, 7)])], 1.0)
        assert [s for s, _ in told] == ([scoring] if index == 1 else [pausing, scoring])
    assert pausing.held == []


def test_an_interval_of_0_tells_every_step_at_once():
    pacing, some = Pacing(0.0), sequences(3)
    for index in range(5):
        events = [(s, [step(index)]) for s in some]
        assert pacing.due(events, 1.0) == events


@pytest.mark.asyncio(loop_scope="session")
async def test_streams_say_the_same_in_fewer_messages(artifacts):
    replies = []
    for interval in (0.0, 1.0):
        async with running_server(artifacts["int8"], message_interval=interval) as running:
            options = {"temperature": 1.0, "ignore_eos": True, "max_tokens": 40, "top_logprobs": 3}
            work = (generate(running, [5, n], seed=n, **options) for n in range(6))
            replies.append(await asyncio.gather(*work))
    for at_once, paced in zip(*replies, strict=True):
        assert paced.bits == at_once.bits
        assert paced.finish == at_once.finish
        assert len(paced.messages) < len(at_once.messages)
