"""Open sequences: ordered, forked, rewound, parked; their bits are those of a fresh run."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_model import VOCABULARY, fake_engine

from nextok_server.engine import Engine
from nextok_server.events import Outlook, Step
from nextok_server.orders import Fork, Order
from nextok_server.sampling import SamplingParams
from nextok_server.sequence import Outputs, Request, Sequence, StopParams

CHUNK = 4
OUTPUTS = Outputs(top=VOCABULARY - 2, full=True)
NEVER = 10_000
PLAIN = SamplingParams()
KINDS = pytest.mark.parametrize("cuts_freely", [True, False])


def open_request(prompt, appended=(), *, family=b"one", sampling=PLAIN, **fields):
    stop = StopParams(max_tokens=0)
    return Request(
        tuple(prompt),
        sampling,
        stop,
        OUTPUTS,
        family=family,
        open=True,
        appended=tuple(appended),
        **fields,
    )


def told(distribution) -> tuple:
    """Every bit of a distribution."""
    return distribution.full.tobytes(), tuple(distribution.top), distribution.entropy


def fresh(prompt, tokens, sampling, *, cuts_freely) -> list[tuple]:
    """What a run of its own tells of these tokens, and of what could come next, in order."""
    engine, _ = fake_engine(slots=1, chunk=CHUNK, cuts_freely=cuts_freely, reuse=False)
    stop = StopParams(len(tokens) + 1)
    request = Request(tuple(prompt), sampling, stop, OUTPUTS, forced=(*tokens, 0))
    engine.scheduler.add(Sequence(request, NEVER))
    found = []
    while engine.has_work:
        for _, events in engine.step():
            found += [told(event.distribution) for event in events]
    return found


@dataclass
class Branch:
    """What a sequence was ordered to, and what has to be told of it.

    Attributes:
        length: Tokens that it will have when it has done all of it.
        answers: For each order that is not answered: steps to come, and the order.
        distributions: Behind the prompt and behind each token.
    """

    sequence: Sequence
    length: int
    answers: deque[tuple[int, Order]] = field(default_factory=lambda: deque([(0, Order())]))
    tokens: list[int] = field(default_factory=list)
    sampling: SamplingParams = field(default_factory=SamplingParams)

    def order(self, engine: Engine, order: Order) -> None:
        engine.order(self.sequence, order)
        self.length += len(order.forced) + order.draws - order.rewind
        self.answers.append((len(order.forced) + order.draws, order))

    def hear(self, event, *, cuts_freely: bool) -> None:
        left, order = self.answers[0]
        if order.rewind and left == len(order.forced) + order.draws:
            del self.tokens[len(self.tokens) - order.rewind :]
            order = replace(order, rewind=0)
            self.answers[0] = left, order
        self.sampling = order.sampling or self.sampling
        prompt = self.sequence.request.prompt
        known = fresh(prompt, self.tokens, self.sampling, cuts_freely=cuts_freely)
        assert told(event.distribution) == known[-1]
        if left:
            assert isinstance(event, Step)
            assert event.index == len(self.tokens)
            assert event.forced == (left > order.draws)
            if event.forced:
                place = len(order.forced) + order.draws - left
                assert event.token.token_id == order.forced[place]
            self.tokens.append(event.token.token_id)
            self.answers[0] = left - 1, order
        else:
            assert isinstance(event, Outlook)
            assert event.position == len(prompt) + len(self.tokens)
            self.answers.popleft()


class Family:
    """An engine, some open sequences and their neighbours."""

    def __init__(self, **settings) -> None:
        self.cuts_freely = settings["cuts_freely"]
        self.engine, self.model = fake_engine(chunk=CHUNK, **settings)
        self.branches: dict[Sequence, Branch] = {}
        self.neighbours: list[Sequence] = []

    def start(self, prompt, appended=(), **fields) -> Branch:
        sequence = Sequence(open_request(prompt, appended, **fields), NEVER)
        self.engine.scheduler.add(sequence)
        branch = self.branches[sequence] = Branch(sequence, len(appended), tokens=list(appended))
        branch.sampling = sequence.request.sampling
        return branch

    def fork(self, branch: Branch) -> Branch:
        child = Sequence(branch.sequence.request, NEVER)
        self.engine.order(branch.sequence, Fork(child))
        copy = self.branches[child] = Branch(child, branch.length)
        # The tokens are known once everything before the fork has been told.
        branch.answers.append((-1, copy))
        self._settle(branch)
        return copy

    def neighbour(self, prompt, tokens: int) -> None:
        request = Request(tuple(prompt), SamplingParams(), StopParams(tokens))
        self.neighbours.append(Sequence(request, NEVER))
        self.engine.scheduler.add(self.neighbours[-1])

    def cancel(self, branch: Branch) -> None:
        self.engine.cancel(branch.sequence)
        del self.branches[branch.sequence]

    def step(self) -> None:
        heard = self.engine.step()
        # A copy's first event may come in the same step as what its parent told before.
        for sequence, events in heard:
            branch = self.branches.get(sequence)
            for event in events if branch else []:
                branch.hear(event, cuts_freely=self.cuts_freely)
                self._settle(branch)

    def finish(self) -> None:
        """Steps until there is nothing to do; every order has been answered by then."""
        left = 4000
        while self.engine.has_work or any(not s.finished for s in self.neighbours):
            if not self.engine.has_work:
                # A stranger waits for a slot until somebody parks who has nothing to do.
                for sequence in self.branches:
                    self.engine.park(sequence)
            self.step()
            left -= 1
            assert left > 0, "nobody got on"
        assert all(not branch.answers for branch in self.branches.values())
        assert all(sequence.finished for sequence in self.neighbours)

    def rows_without_slots(self) -> int:
        return len({id(s.row) for s in self.branches if s.row is not None and s.slot < 0})

    @staticmethod
    def _settle(branch: Branch) -> None:
        while branch.answers and branch.answers[0][0] < 0:
            copy = branch.answers.popleft()[1]
            copy.tokens, copy.sampling = list(branch.tokens), branch.sampling


tokens = st.integers(0, VOCABULARY - 1)
params = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.7, 1.0]),
    top_k=st.sampled_from([0, 2]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    frequency_penalty=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 3),
)
actions = st.one_of(
    st.tuples(st.just("force"), st.lists(tokens, min_size=1, max_size=6)),
    st.tuples(st.just("draw"), st.integers(1, 4), st.none() | params),
    st.tuples(st.just("rewind"), st.integers(1, 6)),
    st.tuples(st.just("fork")),
    st.tuples(st.just("drop")),
    st.tuples(st.just("park")),
    st.tuples(st.just("appended"), st.lists(tokens, max_size=4)),
    st.tuples(st.just("neighbour"), st.lists(tokens, min_size=1, max_size=9), st.integers(1, 5)),
    st.tuples(st.just("step")),
    st.tuples(st.just("step")),
    st.tuples(st.just("finish")),
)


def act(family: Family, branch: Branch, prompt, action) -> None:
    match action:
        case ("force", given):
            branch.order(family.engine, Order(forced=tuple(given)))
        case ("draw", count, sampling):
            branch.order(family.engine, Order(draws=count, sampling=sampling))
        case ("rewind", count):
            count = min(count, branch.length)
            branch.order(family.engine, Order(rewind=count))
        case ("fork",) if len(family.branches) < 8:
            family.fork(branch)
        case ("drop",) if len(family.branches) > 1 and not branch.sequence.orders:
            family.cancel(branch)
        case ("park",):
            family.engine.park(branch.sequence)
        case ("appended", given) if len(family.branches) < 8:
            family.start(prompt, given)
        case ("neighbour", text, count):
            family.neighbour(text, count)
        case ("step",):
            family.step()
        case ("finish",):
            family.finish()


@given(
    st.lists(tokens, min_size=1, max_size=11),
    st.lists(st.tuples(st.integers(0, 7), actions), max_size=30),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 9, 1000]),
)
def test_whatever_is_ordered_all_is_told_as_a_fresh_run_would(
    prompt, script, slots, cuts_freely, reuse, retained
):
    family = Family(slots=slots, cuts_freely=cuts_freely, reuse=reuse, retained=retained)
    family.start(prompt)
    for number, action in script:
        branch = list(family.branches.values())[number % len(family.branches)]
        act(family, branch, prompt, action)
        assert family.rows_without_slots() <= slots
    family.finish()
    for branch in list(family.branches.values()):
        family.cancel(branch)
    # Every slot is free again.
    family.neighbours.clear()
    for _ in range(slots):
        family.neighbour([1, 2, 3], 9)
    family.engine.step()
    assert all(sequence.slot >= 0 for sequence in family.neighbours)


@KINDS
def test_branches_of_one_text_are_decoded_in_one_step(cuts_freely):
    family = Family(slots=8, cuts_freely=cuts_freely)
    root = family.start(range(6))
    family.finish()
    branches = [root, *(family.fork(root) for _ in range(7))]
    for number, branch in enumerate(branches):
        branch.order(family.engine, Order(forced=(number % VOCABULARY,)))
    before = family.model.computed
    family.step()
    assert family.model.computed - before == 8
    assert not any(branch.answers for branch in branches)


@KINDS
def test_a_fork_computes_nothing_and_takes_no_slot(cuts_freely):
    family = Family(slots=2, cuts_freely=cuts_freely)
    root = family.start(range(6))
    family.finish()
    before = family.model.computed
    copy = family.fork(root)
    family.finish()
    assert family.model.computed == before
    assert copy.sequence.slot < 0


@KINDS
def test_a_parked_branch_whose_state_nobody_took_computes_its_last_token_again(cuts_freely):
    family = Family(slots=2, cuts_freely=cuts_freely)
    root = family.start(range(6))
    root.order(family.engine, Order(forced=(1, 2, 3, 4, 5)))
    family.finish()
    family.engine.park(root.sequence)
    before = family.model.computed
    root.order(family.engine, Order(forced=(6,)))
    family.finish()
    assert family.model.computed - before == 2


@KINDS
def test_a_branch_that_lost_its_slot_comes_back_with_the_same_bits(cuts_freely):
    family = Family(slots=1, cuts_freely=cuts_freely, retained=0)
    root = family.start(range(6))
    root.order(family.engine, Order(forced=(1, 2, 3, 4, 5)))
    family.finish()
    family.engine.park(root.sequence)
    family.neighbour([3, 3, 3, 3, 3], 5)
    family.finish()
    root.order(family.engine, Order(draws=3))
    family.finish()
    assert len(root.tokens) == 8


def test_tokens_that_are_computed_again_take_chunks_where_bits_do_not_depend_on_it():
    family = Family(slots=1, cuts_freely=True, retained=0)
    family.start(range(6), [token % VOCABULARY for token in range(4 * CHUNK)])
    steps = 0
    while family.engine.has_work:
        family.step()
        steps += 1
    assert steps <= 3


def test_a_familys_resting_branch_makes_room_for_the_next_and_a_strangers_does_not():
    family = Family(slots=1, cuts_freely=True)
    first = family.start([1, 2, 3])
    family.finish()
    stranger = family.start([1, 2, 3], family=b"two")
    assert not family.engine.has_work
    family.engine.cancel(stranger.sequence)
    second = family.start([1, 2, 3])
    family.step()
    assert (first.sequence.slot, second.sequence.slot) == (-1, 0)


@KINDS
def test_copies_that_are_not_open_go_on_from_the_distribution_at_hand(cuts_freely):
    family = Family(slots=4, cuts_freely=cuts_freely)
    root = family.start(range(6))
    family.finish()
    found: dict[Sequence, list] = {}
    for seed in range(3):
        request = Request(
            tuple(range(6)),
            SamplingParams(seed=seed),
            StopParams(4),
            OUTPUTS,
            fork=6,
            family=b"one",
        )
        child = Sequence(request, NEVER)
        found[child] = []
        family.engine.order(root.sequence, Fork(child))
    before = family.model.computed
    while family.engine.has_work:
        for sequence, events in family.engine.step():
            if sequence in found:
                found[sequence] += events
    assert family.model.computed - before == 3 * 3
    for child, steps in found.items():
        tokens = [step.token.token_id for step in steps]
        known = fresh(range(6), tokens, child.request.sampling, cuts_freely=cuts_freely)
        assert [told(step.distribution) for step in steps] == known[:4]
        assert steps[-1].finish is not None


def test_draws_after_a_rewind_are_the_same_again():
    family = Family(slots=1, cuts_freely=True)
    sampling = SamplingParams(seed=5)
    root = family.start([1, 2, 3], sampling=sampling)
    root.order(family.engine, Order(draws=8))
    family.finish()
    drawn = list(root.tokens)
    root.order(family.engine, Order(rewind=5))
    root.order(family.engine, Order(draws=5))
    family.finish()
    assert root.tokens == drawn
    assert len(set(drawn)) > 1
