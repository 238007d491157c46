"""Who runs when and on what state, checked against a cache that remembers each token's past."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from nextok_server.calls import Calls, OneCall, SeparateCalls
from nextok_server.keys import chunk_keys
from nextok_server.kv_cache import KVCache
from nextok_server.sampling import SamplingParams
from nextok_server.scheduler import Scheduler
from nextok_server.score_plan import ScoreTask, parts
from nextok_server.sequence import Outputs, Request, Sequence, StopParams
from nextok_server.work import Work

CHUNK = 4
# Of the model that scorings are planned for.
CONTEXT = 18


class Memory:
    """For each slot and place: the text up to there, and how the last token of it was computed."""

    def __init__(self, slots: int) -> None:
        self.slots: list[list[tuple]] = [[] for _ in range(slots)]
        self.copied = 0

    def write(self, slot: int, start: int, cells: list[tuple]) -> None:
        assert start <= len(self.slots[slot])
        self.slots[slot][start : start + len(cells)] = cells

    def copy(self, source: int, target: int, start: int, stop: int) -> None:
        assert source != target
        assert 0 <= start < stop <= len(self.slots[source])
        self.copied += stop - start
        self.write(target, start, self.slots[source][start:stop])

    def discard(self, slot: int, start: int) -> None:
        assert start < len(self.slots[slot])
        del self.slots[slot][start:]


def cells(sequence: Sequence, stop: int) -> list[tuple]:
    """What a slot has to hold of a text: whole chunks, a chunk's part, or single tokens."""
    prompt_length = len(sequence.request.prompt)
    fork = prompt_length if sequence.request.fork is None else sequence.request.fork
    found = []
    for place in range(stop):
        base, end = (0, fork) if place < fork else (fork, prompt_length)
        start = base + (place - base) // CHUNK * CHUNK
        length = 1 if place >= prompt_length else min(CHUNK, end - start)
        found.append((tuple(sequence.tokens[: place + 1]), length))
    return found


@dataclass
class World:
    """A scheduler, and an engine that computes nothing but writes down what it would."""

    slots: int
    retained: int = 1000
    reuse: bool = True
    kind: type[Calls] = SeparateCalls
    computed_chunks: list[tuple] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.memory = Memory(self.slots)
        cache = KVCache(self.slots, self.memory, self.retained)
        calls = self.kind(CHUNK, self.slots)
        self.scheduler = Scheduler(cache, calls, CHUNK, reuse=self.reuse)
        self.sequences: list[Sequence] = []
        self.admitted: list[Sequence] = []

    def add(self, prompt, max_tokens=2, **fields) -> Sequence:
        stop = StopParams(max_tokens)
        return self.add_request(Request(tuple(prompt), SamplingParams(), stop, **fields))

    def add_scoring(self, task: ScoreTask) -> list[Sequence]:
        requests = [part.request for part in parts(task, CONTEXT)]
        return [self.add_request(request) for request in requests if request is not None]

    def add_request(self, request: Request) -> Sequence:
        sequence = Sequence(request, window=1000)
        self.scheduler.add(sequence)
        self.sequences.append(sequence)
        return sequence

    def running(self) -> list[Sequence]:
        return [s for s in self.sequences if s.slot >= 0]

    def cancel(self, sequence: Sequence) -> None:
        sequence.finished = True
        self.scheduler.remove(sequence)

    def step(self) -> list[list[Work]]:
        plan = self.scheduler.plan()
        self._check(plan)
        for work in chain(*plan):
            sequence, start = work.sequence, work.sequence.computed
            self._compute(sequence, work.length)
            self.scheduler.note_computed(work)
            if work.length > 1:
                ends = self._borders(sequence, start, sequence.computed)
                self.computed_chunks += [tuple(sequence.tokens[:end]) for end in ends]
            self._go_on(sequence)
        return plan

    def _check(self, plan: list[list[Work]]) -> None:
        new = [s for s in self.sequences if s.slot >= 0 and s not in self.admitted]
        self.admitted += sorted(new, key=lambda s: -s.request.priority)
        works = list(chain(*plan))
        planned = {work.sequence for work in works}
        assert len(planned) == len(works)
        # The first that can go on does.
        ready = [s for s in self.admitted if s.slot >= 0 and not s.paused]
        assert set(ready[:1]) <= planned <= set(ready)
        decoding = {s for s in self.running() if not s.paused and s.generated}
        assert decoding <= planned
        for call in plan:
            slots = [work.sequence.slot for work in call]
            assert slots
            assert slots == sorted(slots)
            if self.kind is SeparateCalls and len(call) > 1:
                longest = max(work.length + work.length % 2 for work in call)
                assert longest == 2 or (slots[-1] - slots[0] + 1) * longest <= CHUNK
                assert len({work.length == 1 for work in call}) == 1
        prompts = sum(work.length for work in works if work.length > 1)
        if self.kind is OneCall:
            assert len(plan) <= 1
            assert prompts <= CHUNK * (1 if decoding else 4)

    def _compute(self, sequence: Sequence, length: int) -> None:
        start = sequence.computed
        known = cells(sequence, start + length)
        assert self.memory.slots[sequence.slot][:start] == known[:start]
        assert [*self._borders(sequence, start, start + length)][-1:] == [start + length]
        assert self.kind is OneCall or known[start][1] == length
        self.memory.write(sequence.slot, start, known[start:])

    @staticmethod
    def _borders(sequence: Sequence, start: int, stop: int) -> Iterator[int]:
        """Where the chunks end that begin at `start` and end by `stop`."""
        known = cells(sequence, stop)
        while start < stop:
            start += known[start][1]
            yield start

    def _go_on(self, sequence: Sequence) -> None:
        if sequence.computed < len(sequence.request.prompt):
            return
        if sequence.request.scoring is None:
            sequence.tokens.append(len(sequence.tokens) % 3)
        sequence.finished = sequence.generated >= sequence.request.stop.max_tokens
        if sequence.finished:
            self.scheduler.remove(sequence)

    def trim(self) -> None:
        """Steps with nothing to compute, until no more memory is given back."""
        for _ in self.memory.slots:
            self.step()
        assert not self.scheduler.has_excess
        assert sum(map(len, self.memory.slots)) <= self.retained

    def prefixes(self) -> set[int]:
        """The first token of what each slot's memory holds."""
        return {cell[0][0] for memory in self.memory.slots for cell in memory[:1]}

    def finish(self) -> None:
        """Steps until nothing is left; every step brings somebody on."""
        left = 10 + sum(len(s.tokens) + s.request.stop.max_tokens for s in self.sequences)
        while self.scheduler.has_work:
            self.step()
            left -= 1
            assert left > 0, "nobody got on"
        assert all(s.finished for s in self.sequences)


prompts = st.lists(
    st.sampled_from([(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 2), (0,), (1, 2)]), min_size=1, max_size=5
).map(lambda parts: [token for part in parts for token in part])
requests = st.fixed_dictionaries(
    {"prompt": prompts, "max_tokens": st.integers(1, 6)},
    optional={
        "bypass_prefix_reuse": st.booleans(),
        "outputs": st.builds(Outputs, prompt=st.booleans()),
        "priority": st.integers(-1, 1),
        "pauses": st.just(True),
    },
)
scorings = st.builds(
    ScoreTask,
    prompt=prompts.map(tuple),
    continuations=st.lists(prompts.map(tuple), max_size=5).map(tuple),
    outputs=st.just(Outputs()),
    stride=st.integers(1, CONTEXT),
    priority=st.integers(-1, 1),
    bypass_prefix_reuse=st.booleans(),
)
actions = st.one_of(
    requests,
    requests,
    scorings,
    st.just("step"),
    st.just("step"),
    st.tuples(st.just("cancel"), st.integers(0, 99)),
)


@given(
    st.lists(actions, max_size=40),
    st.integers(1, 5),
    st.sampled_from([0, 3, 8, 13, 1000]),
    st.booleans(),
    st.sampled_from([OneCall, SeparateCalls]),
)
def test_nobody_builds_on_anothers_tokens_or_waits_for_ever(script, slots, retained, reuse, kind):
    world = World(slots, retained, reuse, kind)
    for action in script:
        alive = [sequence for sequence in world.sequences if not sequence.finished]
        if isinstance(action, dict):
            fields = dict(action)
            pauses = fields.pop("pauses", False)
            sequence = world.add(**fields)
            # As a reader that is behind, while others run.
            sequence.read = -1000 if pauses else 0
        elif isinstance(action, ScoreTask):
            world.add_scoring(action)
        elif action == "step":
            world.step()
        elif alive:
            world.cancel(alive[action[1] % len(alive)])
    for sequence in world.sequences:
        sequence.read = 0
    world.finish()
    world.trim()
    for sequence in world.sequences:
        request = sequence.request
        most = len(request.prompt) - 1 if request.scoring is None else request.scoring.first
        assert sequence.cached % CHUNK == 0 or sequence.cached == request.fork
        assert 0 <= sequence.cached <= max(0, most)
        if (not reuse or request.bypass_prefix_reuse) and not request.family:
            assert sequence.cached == 0
        if request.outputs.prompt:
            assert sequence.cached == 0


@given(st.integers(1, 40), st.integers(1, 8), st.sampled_from([OneCall, SeparateCalls]))
def test_a_shared_prefix_is_computed_once_however_many_arrive_together(length, slots, kind):
    world = World(slots, kind=kind)
    shared = list(range(length))
    for number in range(slots):
        world.add([*shared, 100 + number])
    world.finish()
    whole = [chunk for chunk in world.computed_chunks if len(chunk) <= length // CHUNK * CHUNK]
    assert len(whole) == len(set(whole)) == length // CHUNK


@given(
    st.integers(1, 40),
    st.integers(1, 8),
    st.booleans(),
    st.booleans(),
    st.sampled_from([OneCall, SeparateCalls]),
)
def test_what_continuations_share_is_computed_once(length, count, reuse, bypass, kind):
    world = World(slots=count, reuse=reuse, kind=kind)
    task = ScoreTask(
        prompt=tuple(range(length)),
        continuations=tuple((100 + n, 7, 8) for n in range(count)),
        outputs=Outputs(),
        stride=1,
        priority=0,
        bypass_prefix_reuse=bypass,
    )
    sequences = [world.add_request(part.request) for part in parts(task, context=100)]
    world.finish()
    computed = [chunk for chunk in world.computed_chunks if len(chunk) <= length]
    # A last token that is alone is fed as generated ones are: by each, in one step.
    alone = length % CHUNK == 1
    assert len(computed) == len(set(computed)) == math.ceil((length - alone) / CHUNK)
    assert all(s.cached == length - alone for s in sequences[1:])


def test_an_unrelated_prompt_is_not_held_up_by_those_that_wait_for_each_other():
    world = World(slots=8)
    for number in range(6):
        world.add([*range(20), 100 + number])
    unrelated = world.add([7] * 9)
    # Five chunks of the shared prefix, six remainders one by one at most, then its own three.
    for _ in range(5 + 6 + 3):
        world.step()
    assert unrelated.generated > 0


def test_the_first_goes_on_where_the_one_it_followed_is_cancelled():
    world = World(slots=4)
    leader, *others = [world.add([*range(20), 100 + number]) for number in range(4)]
    world.step()
    world.step()
    assert [s.computed for s in (leader, *others)] == [8, 0, 0, 0]
    world.cancel(leader)
    world.finish()
    assert [s.cached for s in others] == [8, 20, 20]


def test_a_prompt_takes_several_chunks_a_step_while_nobody_decodes():
    world = World(slots=3, kind=OneCall)
    long = world.add(range(20, 43))
    short = world.add(range(3))
    lengths = []
    while not long.generated:
        plan = world.step()
        lengths.append([(work.sequence is long, work.length) for work in chain(*plan)])
    # The short one has no room beside four chunks; from then on it decodes.
    assert lengths[0] == [(True, 4 * CHUNK)]
    assert lengths[1] == [(True, CHUNK), (False, 3)] or lengths[1][0] == (True, 7)
    assert short.generated


def test_a_paused_leader_holds_up_nobody():
    world = World(slots=2)
    leader = world.add(list(range(13)), outputs=Outputs(prompt=True))
    follower = world.add(list(range(13)))
    world.step()
    leader.read = -1000
    for _ in range(5):
        world.step()
    assert follower.generated > 0
    assert follower.cached == 4
    leader.read = 0
    world.finish()


def test_a_sequence_that_bypasses_reuse_gives_to_others():
    world = World(slots=1)
    prompt = list(range(13))
    for bypass, cached in ((True, 0), (False, 12), (True, 0), (False, 12)):
        sequence = world.add(prompt, bypass_prefix_reuse=bypass)
        world.finish()
        assert sequence.cached == cached


def test_a_slot_that_holds_just_the_prefix_is_taken_over_without_a_copy():
    world = World(slots=4)
    world.add(list(range(9)))
    world.finish()
    again = world.add([*range(8), 50, 51])
    world.finish()
    assert (again.cached, world.memory.copied) == (8, 0)


def test_a_prompt_of_whole_chunks_has_its_last_one_computed():
    world = World(slots=2)
    for length, cached in ((8, 0), (8, 4), (9, 8), (10, 8)):
        sequence = world.add(list(range(length)))
        world.finish()
        assert sequence.cached == cached


def test_a_prefix_outlives_requests_that_come_one_by_one_and_share_nothing():
    world = World(slots=4)
    world.add([1] * 9)
    world.finish()
    for number in range(2, 4):
        other = world.add([number] * 9)
        world.finish()
        assert other.slot == -1
        assert other.cached == 0
    first = world.add([1] * 9)
    world.finish()
    assert first.cached == 8


@given(st.lists(st.integers(0, 6), max_size=40), st.integers(2, 6), st.sampled_from([30, 1000]))
def test_prefixes_used_last_are_kept_whatever_slot_they_were_in(numbers, slots, retained):
    world = World(slots, retained)
    last: list[int] = []
    for number in numbers:
        sequence = world.add([number] * 9)
        world.finish()
        kept = min(slots, retained // 9)
        # One slot may hold what another holds too, copied down from it.
        assert sequence.cached == 8 or number not in last[: kept - 1]
        assert sequence.cached == 0 or number in last[:slots]
        last = [number, *(other for other in last if other != number)]
    world.trim()


def run_one_by_one(world: World, *numbers: int) -> list[bool]:
    """Whether each prompt, given by its token, found its prefix."""
    found = []
    for number in numbers:
        sequence = world.add([number] * 9)
        world.finish()
        found.append(sequence.cached == 8)
    return found


def test_a_prefix_is_not_lost_to_make_room_for_its_own_use():
    world = World(slots=4)
    run_one_by_one(world, 1, 2, 3, 4)
    assert run_one_by_one(world, 1) == [True]


def test_what_two_slots_hold_is_lost_before_what_only_one_does():
    world = World(slots=4)
    run_one_by_one(world, 1)
    for _ in range(3):
        world.add([2] * 9)
    world.finish()
    run_one_by_one(world, 3, 4)
    assert world.prefixes() == {1, 2, 3, 4}


def test_a_prefix_that_was_copied_down_leaves_its_place_to_others():
    world = World(slots=5)
    run_one_by_one(world, 1, 2, 3, 4, 5)
    running = world.add([3] * 9, max_tokens=50)
    world.step()
    assert (running.cached, running.slot) == (8, 0)
    other = world.add([6] * 9)
    while not other.finished:
        world.step()
    assert world.prefixes() == {2, 3, 4, 5, 6}


def test_those_who_wait_do_not_lose_their_prefix_to_those_before_them():
    world = World(slots=2)
    run_one_by_one(world, 1, 2)
    world.add([3] * 9)
    waits = world.add([1] * 9)
    world.finish()
    assert waits.cached == 8


def test_a_prefix_longer_than_a_step_copies_is_copied_all_the_same():
    world = World(slots=2)
    long = list(range(40 * CHUNK))
    first = world.add(long, max_tokens=100)
    while not first.generated:
        world.step()
    other = world.add([*long, 7, 7])
    world.step()
    assert other.cached == 40 * CHUNK
    world.finish()


def test_no_step_copies_for_long():
    world = World(slots=10)
    shared = list(range(4 * CHUNK))
    for number in range(10):
        world.add([*shared, number], max_tokens=100)
    copied = []
    while len(copied) < 20:
        before = world.memory.copied
        world.step()
        copied.append(world.memory.copied - before)
    assert sum(copied) == 9 * 4 * CHUNK
    assert max(copied) == 16 * CHUNK


def test_memory_counts_that_an_earlier_request_used():
    world = World(slots=2, retained=13)
    world.add([1] * 9, max_tokens=4)
    world.finish()
    for _ in range(2):
        world.add([2] * 3, max_tokens=1)
    world.finish()
    world.trim()


def test_slots_stay_low_whatever_they_held():
    world = World(slots=8)
    for number in range(8):
        world.add([number] * 9)
    world.finish()
    for number in (7, 3, 5, 9):
        sequences = [world.add([number + extra] * 9) for extra in range(2)]
        world.step()
        assert {s.slot for s in sequences} == {0, 1}
        world.finish()


def test_nothing_is_kept_where_nothing_may_be():
    world = World(slots=2, retained=0)
    for _ in range(2):
        sequence = world.add(list(range(13)))
        world.finish()
        assert sequence.cached == 0
    together = [world.add(list(range(13))) for _ in range(2)]
    world.finish()
    assert [s.cached for s in together] == [0, 12]


def test_memory_is_given_back_while_others_run():
    world = World(slots=4, retained=13)
    for number in range(4):
        world.add([number] * 20, max_tokens=10)
    world.finish()
    stays = world.add([9] * 9, max_tokens=1000)
    while world.scheduler.has_excess:
        world.step()
    assert not stays.finished


def test_keys_tell_prompts_apart_by_every_token_before_a_chunks_end():
    base = chunk_keys(range(12), CHUNK)
    assert len(base) == len(chunk_keys(range(15), CHUNK)) == 3
    for place in range(12):
        changed = list(range(12))
        changed[place] += 1
        keys = chunk_keys(changed, CHUNK)
        same = place // CHUNK
        assert keys[:same] == base[:same]
        assert not set(keys[same:]) & set(base)
