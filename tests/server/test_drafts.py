"""When drafts are made and whose are verified: policy alone, with no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextok_server.drafts import Drafter
from nextok_server.kv_cache import KVCache
from nextok_server.sampling import SamplingParams
from nextok_server.scheduler import Plan, Scheduler
from nextok_server.sequence import Request, Sequence, StopParams

CHUNK = 16
# Of a token's time, what one that is drafted is counted as, and what may be lost: three quarters
# of a token at first, and one in 64.
COST, FIRST, SHARE = 1 / 4, 3 / 4, 1 / 64
texts = st.lists(st.integers(0, 3), min_size=1, max_size=200)


@dataclass
class Run:
    """A text that is generated with drafts: the pass for each token, the time for all."""

    passes: list[tuple[int, int]] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return sum(accepted + 1 for _, accepted in self.passes)

    @property
    def time(self) -> float:
        return sum(1 + drafted * COST for drafted, _ in self.passes)


def right(draft: list[int], text: list[int]) -> int:
    """How many tokens of a draft are the text's."""
    pairs = zip(draft, text, strict=False)
    return next((n for n, (one, other) in enumerate(pairs) if one != other), len(draft))


def generate(text: list[int], prompt: int) -> Run:
    drafter, run, known = Drafter(), Run(), prompt + 1
    while known < len(text):
        draft = drafter.draft(text[:known], len(text) - known - 1)
        accepted = right(draft, text[known:])
        if draft:
            drafter.settle(len(draft), accepted)
        run.passes.append((len(draft), accepted))
        known += accepted + 1
    return run


@given(texts, st.integers(1, 50))
def test_whatever_the_text_little_time_is_lost(text, prompt):
    run = generate(text, prompt)
    assert run.tokens == max(0, len(text) - prompt - 1)
    assert run.time <= run.tokens * (1 + SHARE) + FIRST


@given(texts)
def test_a_draft_is_how_the_text_went_on_before_and_the_same_when_asked_again(text):
    drafter = Drafter()
    for end in range(1, len(text)):
        draft = drafter.draft(text[:end], 15)
        assert drafter.draft(text[:end], 15) == draft
        if draft:
            # What stands before it and the draft itself stand together further back.
            joined = [*text[:end], *draft]
            tail = joined[end - 2 :]
            assert any(joined[at : at + len(tail)] == tail for at in range(end - 2))


@given(texts, st.integers(1, 20))
def test_no_more_is_drafted_than_there_is_use_for(text, most):
    drafter = Drafter()
    for end in range(1, len(text)):
        assert len(drafter.draft(text[:end], most)) <= most


def test_drafts_go_round_where_the_text_does():
    drafter = Drafter()
    assert drafter.draft([9, 1, 2, 1, 2, 1], 3) == [2, 1, 2]


def test_the_longest_of_the_ngrams_found_is_gone_on_from():
    drafter = Drafter()
    assert drafter.draft([1, 2, 3, 50, 7, 2, 3, 60, 1, 2, 3], 1) == [50]


@pytest.mark.parametrize("tokens", [[], [5], [5, 6, 7, 8, 9]])
def test_there_is_no_draft_where_nothing_repeats(tokens):
    assert Drafter().draft(tokens, 15) == []


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

    def __init__(self, slots: int) -> None:
        self.scheduler = Scheduler(KVCache(slots, NoMemory(), 0), CHUNK, reuse=False)
        self.texts: dict[Sequence, list[int]] = {}
        self.passes: dict[Sequence, list[tuple[int, int]]] = {}

    def add(self, text: list[int], prompt: int, *, drafts: bool) -> Sequence:
        stop = StopParams(len(text) - prompt)
        request = Request(tuple(text[:prompt]), SamplingParams(), stop, drafts=drafts)
        sequence = Sequence(request, window=1000)
        self.texts[sequence], self.passes[sequence] = text, []
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> Plan:
        plan = self.scheduler.plan()
        self._check(plan)
        for work in plan.prefill:
            self.scheduler.note_computed(work)
            if work.sequence.computed == len(work.sequence.request.prompt):
                self._append(work.sequence, 1)
        for sequence in plan.decode:
            sequence.computed += 1
            self._note(sequence, 0, 0)
            self._append(sequence, 1)
        for draft in chain(*plan.verify):
            sequence = draft.sequence
            accepted = right(draft.tokens, self.texts[sequence][len(sequence.tokens) :])
            sequence.computed += accepted + 1
            sequence.drafter.settle(len(draft.tokens), accepted)
            self._note(sequence, len(draft.tokens), accepted)
            self._append(sequence, accepted + 1)
        return plan

    def _check(self, plan: Plan) -> None:
        drafts = list(chain(*plan.verify))
        assert len({d.sequence for d in drafts} | set(plan.decode)) == len(drafts + plan.decode)
        for call in plan.verify:
            slots = [draft.sequence.slot for draft in call]
            assert slots == sorted(slots)
            longest = max(len(draft.tokens) + 1 for draft in call)
            assert (slots[-1] - slots[0] + 1) * (longest + longest % 2) <= CHUNK
        for draft in drafts:
            sequence = draft.sequence
            assert 1 <= len(draft.tokens) < CHUNK
            assert len(sequence.tokens) - sequence.computed == 1
            most = len(self.texts[sequence]) - len(sequence.tokens)
            assert sequence.generated
            assert len(draft.tokens) < most

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


@given(crowds, st.integers(1, 8), st.lists(st.integers(0, 11), max_size=20))
def test_a_sequence_has_the_passes_alone_that_it_has_in_a_crowd(crowd, slots, pauses):
    crowd = [(text, min(prompt, len(text) - 1), drafts) for text, prompt, drafts in crowd]
    together = World(slots)
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
        alone = World(1)
        single = alone.add(text, prompt, drafts=drafts)
        alone.finish()
        assert alone.passes[single] == together.passes[sequence]
        assert drafts or all(drafted == 0 for drafted, _ in together.passes[sequence])


def test_where_not_all_drafts_fit_everyone_has_a_turn_and_others_go_on_at_every_step():
    world = World(slots=7)
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
    # Drafts of 15 fill a call each, and a step has four.
    assert 30 * 4 - 6 <= sum(counts) <= 30 * 6 - 30
    world.finish()


def test_rows_far_apart_do_not_share_a_call_that_would_be_padding_for_the_most_part():
    world = World(slots=8)
    ends = []
    for number in range(8):
        text = [number] * (40 if number in (0, 7) else 12)
        ends.append(world.add(text, 10, drafts=number in (0, 7)))
    seen = []
    while world.scheduler.has_work:
        seen += [{draft.sequence.slot for draft in call} for call in world.step().verify]
    assert {0} in seen
    assert {7} in seen
    assert {0, 7} not in seen
