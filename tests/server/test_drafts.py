"""When drafts are made and whose are verified: policy alone, with no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextok_server.calls import Calls, OneCall, SeparateCalls
from nextok_server.drafts import Drafter
from nextok_server.kv_cache import KVCache
from nextok_server.sampling import SamplingParams
from nextok_server.scheduler import Scheduler
from nextok_server.sequence import Request, Sequence, StopParams
from nextok_server.work import Work

CHUNK = 16
# What may be lost of a token's time: three quarters of a token at first, and one in 64.
FIRST, SHARE = 3 / 4, 1 / 64
# Of a token's time, in 64ths.
PRICE = 16
texts = st.lists(st.integers(0, 3), min_size=1, max_size=200)


@dataclass
class Run:
    """A text that is generated with drafts: the pass for each token, the time for all."""

    price: int = PRICE
    passes: list[tuple[int, int]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return sum(accepted + 1 for _, accepted in self.passes)

    @property
    def time(self) -> float:
        return sum(1 + drafted * self.price / 64 for drafted, _ in self.passes)


def right(draft: list[int], text: list[int]) -> int:
    """How many tokens of a draft are the text's."""
    pairs = zip(draft, text, strict=False)
    return next((n for n, (one, other) in enumerate(pairs) if one != other), len(draft))


def generate(text: list[int], prompt: int, price: int = PRICE) -> Run:
    drafter, run, known = Drafter(), Run(price), prompt + 1
    while known < len(text):
        draft = drafter.draft(text[:known], len(text) - known - 1, price)
        accepted = right(draft, text[known:])
        if draft:
            drafter.settle(len(draft), accepted)
        run.passes.append((len(draft), accepted))
        known += accepted + 1
    return run


@given(texts, st.integers(1, 50), st.integers(1, 64))
def test_whatever_the_text_and_the_price_little_time_is_lost(text, prompt, price):
    run = generate(text, prompt, price)
    assert run.tokens == max(0, len(text) - prompt - 1)
    assert run.time <= run.tokens * (1 + SHARE) + FIRST


@given(texts)
def test_a_draft_is_how_the_text_went_on_before_and_the_same_when_asked_again(text):
    drafter = Drafter()
    for end in range(1, len(text)):
        draft = drafter.draft(text[:end], 15, PRICE)
        assert drafter.draft(text[:end], 15, PRICE) == draft
        if draft:
            # What stands before it and the draft itself stand together further back.
            joined = [*text[:end], *draft]
            tail = joined[end - 2 :]
            assert any(joined[at : at + len(tail)] == tail for at in range(end - 2))


@given(texts, st.integers(1, 20))
def test_no_more_is_drafted_than_there_is_use_for(text, most):
    drafter = Drafter()
    for end in range(1, len(text)):
        assert len(drafter.draft(text[:end], most, PRICE)) <= most


def test_drafts_go_round_where_the_text_does():
    drafter = Drafter()
    assert drafter.draft([9, 1, 2, 1, 2, 1], 3, PRICE) == [2, 1, 2]


def test_the_longest_of_the_ngrams_found_is_gone_on_from():
    drafter = Drafter()
    assert drafter.draft([1, 2, 3, 50, 7, 2, 3, 60, 1, 2, 3], 1, PRICE) == [50]


@pytest.mark.parametrize("tokens", [[], [5], [5, 6, 7, 8, 9]])
def test_there_is_no_draft_where_nothing_repeats(tokens):
    assert Drafter().draft(tokens, 15, PRICE) == []


def test_a_text_that_repeats_itself_takes_a_pass_for_many_tokens():
    run = generate([*range(16)] * 20, 64)
    assert len(run.passes) * 8 < run.tokens
    assert all(drafted == accepted for drafted, accepted in run.passes)


def test_drafts_that_fail_become_short_and_rare_and_those_that_hold_long_again():
    # Pairs that were there before, each time followed by another token.
    fails = [token for number in range(100) for token in (1, 2, 100 + number)]
    lengths = [drafted for drafted, _ in generate(fails, 3).passes]
    assert lengths[:6].count(0) < 6
    assert max(lengths[50:]) == 1
    assert lengths[50:].count(0) > 6 * lengths[50:].count(1)
    holds = generate([*fails, *([7] * 100)], 3).passes[len(lengths) :]
    assert max(drafted for drafted, _ in holds) == 15


class NoMemory:
    """Stands for the cache's memory, of which nothing is reused."""

    def copy(self, *_: int) -> None:
        raise AssertionError("nothing is reused")

    def discard(self, *_: int) -> None:
        pass


class World:
    """A scheduler, and an engine that takes each sequence's tokens from a text that is given."""

    def __init__(self, slots: int, kind: type[Calls] = SeparateCalls) -> None:
        cache = KVCache(slots, NoMemory(), 0)
        self.kind = kind
        self.scheduler = Scheduler(cache, kind(CHUNK, slots), CHUNK, reuse=False)
        self.texts: dict[Sequence, list[int]] = {}
        self.passes: dict[Sequence, list[tuple[int, int]]] = {}

    def add(self, text: list[int], prompt: int, *, drafts: bool) -> Sequence:
        stop = StopParams(len(text) - prompt)
        request = Request(tuple(text[:prompt]), SamplingParams(), stop, drafts=drafts)
        sequence = Sequence(request, window=1000)
        self.texts[sequence], self.passes[sequence] = text, []
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> list[list[Work]]:
        plan = self.scheduler.plan()
        self._check(plan)
        for work in chain(*plan):
            sequence = work.sequence
            if not work.draft:
                self.scheduler.note_computed(work)
                if sequence.computed >= len(sequence.request.prompt):
                    self._note(sequence, 0, 0)
                    self._append(sequence, 1)
                continue
            accepted = right(work.draft, self.texts[sequence][len(sequence.tokens) :])
            sequence.computed += accepted + 1
            sequence.drafter.settle(len(work.draft), accepted)
            self._note(sequence, len(work.draft), accepted)
            self._append(sequence, accepted + 1)
        return plan

    def _check(self, plan: list[list[Work]]) -> None:
        works = list(chain(*plan))
        assert len({work.sequence for work in works}) == len(works)
        drafting = [work for work in works if work.draft]
        for call in plan:
            slots = [work.sequence.slot for work in call]
            assert slots == sorted(slots)
            longest = max(work.size for work in call)
            if self.kind is SeparateCalls and longest > 1:
                assert (slots[-1] - slots[0] + 1) * (longest + longest % 2) <= CHUNK
        if self.kind is OneCall:
            assert len(plan) <= 1
            assert sum(work.size for work in drafting) <= 2 * CHUNK
        for work in drafting:
            sequence = work.sequence
            assert work.length == 1
            assert 1 <= len(work.draft) < CHUNK
            assert len(sequence.tokens) - sequence.computed == 1
            most = len(self.texts[sequence]) - len(sequence.tokens)
            assert sequence.generated
            assert len(work.draft) < most

    def _note(self, sequence: Sequence, drafted: int, accepted: int) -> None:
        if sequence.generated:
            self.passes[sequence].append((drafted, accepted))

    def _append(self, sequence: Sequence, count: int) -> None:
        text = self.texts[sequence]
        sequence.tokens += text[len(sequence.tokens) : len(sequence.tokens) + count]
        sequence.finished = len(sequence.tokens) == len(text)
        if sequence.finished:
            self.scheduler.remove(sequence)

    def finish(self) -> int:
        steps = 0
        while self.scheduler.has_work:
            self.step()
            steps += 1
            assert steps < 10_000, "nobody got on"
        return steps


crowds = st.lists(
    st.tuples(
        st.lists(st.integers(0, 2), min_size=2, max_size=80), st.integers(1, 20), st.booleans()
    ),
    min_size=1,
    max_size=12,
)


@given(
    crowds,
    st.integers(1, 8),
    st.lists(st.integers(0, 11), max_size=20),
    st.sampled_from([OneCall, SeparateCalls]),
)
def test_a_sequence_has_the_passes_alone_that_it_has_in_a_crowd(crowd, slots, pauses, kind):
    crowd = [(text, min(prompt, len(text) - 1), drafts) for text, prompt, drafts in crowd]
    together = World(slots, kind)
    sequences = [together.add(text, prompt, drafts=drafts) for text, prompt, drafts in crowd]
    for number in pauses:
        # As a reader that falls behind, and catches up a step later.
        sequence = sequences[number % len(sequences)]
        sequence.read = -1000
        together.step()
        sequence.read = 0
    together.finish()
    for sequence, (text, prompt, drafts) in zip(sequences, crowd, strict=True):
        assert sequence.tokens == text
        alone = World(slots, kind)
        single = alone.add(text, prompt, drafts=drafts)
        alone.finish()
        assert alone.passes[single] == together.passes[sequence]
        assert drafts or all(drafted == 0 for drafted, _ in together.passes[sequence])


def test_the_more_slots_there_are_the_more_a_draft_costs_but_never_a_whole_pass():
    prices = [OneCall(CHUNK, slots).draft_price for slots in range(1, 300)]
    assert prices == sorted(prices)
    assert prices[0] < 8
    assert 32 < prices[31] < prices[-1] < 64


@pytest.mark.parametrize(("kind", "fit"), [(OneCall, 2), (SeparateCalls, 4)])
def test_where_not_all_drafts_fit_everyone_has_a_turn_and_others_go_on_at_every_step(kind, fit):
    world = World(slots=7, kind=kind)
    busy = [world.add([number] * 300, 10, drafts=True) for number in range(6)]
    plain = world.add([9] * 300, 10, drafts=False)
    while not plain.generated:
        world.step()
    for _ in range(30):
        before = plain.generated
        world.step()
        assert plain.generated == before + 1
    counts = [len(world.passes[sequence]) for sequence in busy]
    assert max(counts) - min(counts) <= 1
    # So many drafts of 15 fit in a step, once all are as long.
    assert 30 * fit - 6 <= sum(counts) <= 30 * fit + 80
    world.finish()


def test_rows_far_apart_do_not_share_a_call_that_would_be_padding_for_the_most_part():
    world = World(slots=8)
    ends = []
    for number in range(8):
        text = [number] * (40 if number in (0, 7) else 12)
        ends.append(world.add(text, 10, drafts=number in (0, 7)))
    seen = []
    while world.scheduler.has_work:
        seen += [{w.sequence.slot for w in call} for call in world.step() if call[0].draft]
    assert {0} in seen
    assert {7} in seen
    assert {0, 7} not in seen
