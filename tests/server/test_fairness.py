"""Slots are shared out to callers, not to requests; checked with an engine that only counts."""

from __future__ import annotations

from collections import Counter
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from nextok_server.calls import OneCall
from nextok_server.fair_queue import FairQueue
from nextok_server.kv_cache import KVCache
from nextok_server.sampling import SamplingParams
from nextok_server.scheduler import Scheduler
from nextok_server.sequence import Request, Sequence, StopParams

CHUNK = 4


class NoMemory:
    def copy(self, *_):
        pass

    def discard(self, *_):
        pass


class Crowd:
    """Callers that send their next request as soon as one of theirs ends."""

    def __init__(self, slots):
        cache = KVCache(slots, NoMemory(), 0)
        self.scheduler = Scheduler(cache, OneCall(CHUNK, slots), CHUNK, reuse=False)
        self.started = []
        self.tokens = Counter()
        self._lengths = {}
        self._running = []

    def send(self, caller, prompt=3, tokens=4, priority=0):
        stop = StopParams(tokens)
        request = Request((0,) * prompt, SamplingParams(), stop, priority=priority)
        sequence = Sequence(request, window=10_000, caller=caller)
        self.scheduler.add(sequence)
        self._running.append(sequence)
        return sequence

    def come(self, caller, streams, **lengths):
        self._lengths[caller] = lengths
        for _ in range(streams):
            self.send(caller, **lengths)

    def step(self):
        works = list(chain(*self.scheduler.plan()))
        self.started += [w.sequence for w in works if not w.sequence.computed]
        for work in works:
            sequence = work.sequence
            self.scheduler.note_computed(work)
            self.tokens[sequence.caller] += work.length
            if sequence.computed < len(sequence.tokens):
                continue
            sequence.tokens.append(0)
            if sequence.generated >= sequence.request.stop.max_tokens:
                self._end(sequence)

    def _end(self, sequence):
        sequence.finished = True
        self.scheduler.remove(sequence)
        self._running.remove(sequence)
        if sequence.caller in self._lengths:
            self.send(sequence.caller, **self._lengths[sequence.caller])

    def run(self, steps):
        for _ in range(steps):
            self.step()

    def finish(self):
        self._lengths.clear()
        while self.scheduler.has_work:
            self.step()


def jain(shares):
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


def test_one_caller_with_200_streams_beside_8_with_one_each_gets_no_more_than_they():
    crowd = Crowd(slots=4)
    crowd.come("greedy", 200)
    for number in range(8):
        crowd.come(f"modest{number}", 1)
    crowd.run(2_000)
    index = jain(list(crowd.tokens.values()))
    print(f"Jain index over callers' tokens: {index:.4f}")
    assert len(crowd.tokens) == 9
    assert index >= 0.95


def test_callers_with_few_streams_get_all_they_can_use_where_slots_are_left():
    crowd = Crowd(slots=32)
    crowd.come("greedy", 200)
    crowd.run(50)
    crowd.come("modest", 1)
    crowd.run(50)
    crowd.tokens.clear()
    crowd.run(1_000)
    alone = Crowd(slots=32)
    alone.come("modest", 1)
    alone.run(1_000)
    assert crowd.tokens["modest"] > 0.6 * alone.tokens["modest"]


@given(
    st.integers(1, 6),
    st.lists(
        st.tuples(st.integers(7, 30), st.integers(1, 12), st.integers(1, 8)),
        min_size=2,
        max_size=5,
    ),
)
def test_callers_that_always_wait_get_the_same_whatever_they_send(slots, callers):
    crowd = Crowd(slots)
    for number, (streams, prompt, tokens) in enumerate(callers):
        crowd.come(str(number), streams, prompt=prompt, tokens=tokens)
    crowd.run(300)
    # What may be under way for one and not yet for another.
    most = slots * max(prompt + tokens for _, prompt, tokens in callers)
    assert max(crowd.tokens.values()) - min(crowd.tokens.values()) <= 2 * most


@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-1, 1)), min_size=1, max_size=30),
    st.lists(st.integers(0, 29), max_size=10),
)
def test_everybody_is_served_once_and_equals_in_the_order_they_came(slots, requests, leaving):
    crowd = Crowd(slots)
    sent = [crowd.send(caller, priority=priority) for caller, priority in requests]
    for index in leaving:
        if index < len(sent) and not sent[index].finished:
            sent[index].finished = True
            crowd.scheduler.remove(sent[index])
    crowd.finish()
    stayed = [sequence for sequence in sent if sequence in crowd.started]
    assert len(stayed) == len(crowd.started)
    assert len(stayed) + len({i for i in leaving if i < len(sent)}) == len(sent)
    for caller in "abc":
        for priority in (-1, 0, 1):
            order = [
                sequence
                for sequence in crowd.started
                if (sequence.caller, sequence.request.priority) == (caller, priority)
            ]
            assert order == [s for s in stayed if s in order]


def test_a_newcomer_goes_before_the_rest_of_one_who_was_there_all_along():
    crowd = Crowd(slots=1)
    for _ in range(20):
        crowd.send("long there")
    crowd.run(13)
    newcomer = crowd.send("new")
    before = len(crowd.started)
    crowd.finish()
    assert crowd.started.index(newcomer) <= before


def test_nobody_saves_up_turns_by_staying_away():
    crowd = Crowd(slots=1)
    crowd.send("often away")
    crowd.come("always there", 1)
    crowd.run(500)
    crowd.tokens.clear()
    crowd.come("often away", 5)
    crowd.run(200)
    assert abs(crowd.tokens["often away"] - crowd.tokens["always there"]) <= 14


def test_a_low_priority_gets_on_beside_a_caller_who_always_has_higher_ones():
    crowd = Crowd(slots=1)
    crowd.come("important", 5, priority=5)
    low = [crowd.send("patient", priority=-5) for _ in range(3)]
    crowd.run(400)
    assert all(sequence.finished for sequence in low)
    turns = [crowd.started.index(sequence) for sequence in low]
    assert turns[0] >= 8


def test_who_came_and_went_is_not_remembered():
    queue = FairQueue()
    for number in range(1000):
        request = Request((0,), SamplingParams(), StopParams(1))
        sequence = Sequence(request, window=1, caller=str(number))
        queue.add(sequence, [])
        assert queue.pop([]) is sequence
        sequence.processed = 1
        queue.settle(sequence)
    assert len(queue._served) <= 2
