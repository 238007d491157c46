"""Steps whose tokens are fed back without a look at the sequences: the same as one at a time."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_model import VOCABULARY, fake_engine
from support.serving import generate

from nextok_server import multi_step
from nextok_server.events import Outlook
from nextok_server.pacing import Pacing
from nextok_server.runner import Runner
from nextok_server.sampling import SamplingParams
from nextok_server.sequence import Outputs, Request, Sequence, StopParams

SLOTS, CHUNK, WINDOW = 4, 4, 8
NEVER = math.inf
PATIENCE = 30
tokens = st.integers(0, VOCABULARY - 1)
# Of seven tokens five are told: some draws are none of these.
samplings = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 1.0, 3.0]),
    top_k=st.sampled_from([0, 0, 2, 6]),
    top_p=st.sampled_from([1.0, 1.0, 0.8]),
    presence_penalty=st.sampled_from([0.0] * 9 + [1.0]),
    seed=st.integers(0, 9),
)
requests = st.builds(
    Request,
    prompt=st.lists(tokens, min_size=1, max_size=9).map(tuple),
    sampling=samplings,
    stop=st.builds(
        StopParams,
        max_tokens=st.integers(1, 30),
        min_tokens=st.sampled_from([0, 0, 4]),
        stop_token_ids=st.sampled_from([frozenset(), frozenset(), frozenset({3})]),
        eos_token_ids=st.sampled_from([frozenset(), frozenset(), frozenset({5})]),
    ),
    outputs=st.builds(Outputs, top=st.integers(0, 5), full=st.sampled_from([False] * 9 + [True])),
    forced=st.sampled_from([(), (), (1, 2)]),
    drafts=st.sampled_from([False, False, True]),
)
# Steps before each, when it is given up, and whether it is told at every step or at the end.
arrivals = st.tuples(
    requests,
    st.integers(0, 12),
    st.sampled_from([NEVER, NEVER, 1, 7]),
    st.sampled_from([0.0, NEVER]),
)


def told(step):
    if isinstance(step, Outlook):
        return step.position
    top = [tuple(candidate) for candidate in step.distribution.top]
    full = step.distribution.full
    return (
        *(step.index, step.token, step.forced, step.finish, step.drafted, step.accepted),
        *(top, step.distribution.entropy, step.distribution.top_mass),
        None if full is None else full.tobytes(),
    )


def run(script, *, repeats, reads=True, steps=1000):
    """What each sequence was told, the engine, and its model."""
    engine, model = fake_engine(slots=SLOTS, chunk=CHUNK, cuts_freely=True, repeats=repeats)
    sequences = [Sequence(request, WINDOW, tell_at=tell_at) for request, _, _, tell_at in script]
    known = {sequence: [] for sequence in sequences}
    gone: set[Sequence] = set()
    ages = dict.fromkeys(sequences, 0)
    for number in range(steps):
        for sequence, (_, arrives, _, _) in zip(sequences, script, strict=True):
            if arrives == number:
                engine.scheduler.add(sequence)
        for sequence, events in engine.step():
            assert sequence not in gone
            known[sequence] += events
            if reads:
                sequence.read += len(events)
        for sequence, (_, arrives, leaves, _) in zip(sequences, script, strict=True):
            ages[sequence] += number >= arrives
            if ages[sequence] == leaves:
                engine.cancel(sequence)
                gone.add(sequence)
    return [list(map(told, known[sequence])) for sequence in sequences], engine, model


@given(script=st.lists(arrivals, min_size=1, max_size=5))
def test_whoever_comes_ends_or_leaves_all_are_told_what_they_are_one_token_at_a_time(script):
    nobody_leaves = [(request, arrives, NEVER, at) for request, arrives, _, at in script]
    one_by_one, plain, plain_model = run(nobody_leaves, repeats=False)
    together, engine, model = run(script, repeats=True)
    for known, expected, (_, _, leaves, _) in zip(together, one_by_one, script, strict=True):
        assert known == (expected if leaves == NEVER else expected[: len(known)])
    if all(leaves == NEVER for _, _, leaves, _ in script):
        assert model.computed == plain_model.computed
        assert engine.tally.generated == plain.tally.generated
        assert sum(engine.tally.gaps.counts) == sum(plain.tally.gaps.counts)
    assert not engine.has_work
    assert engine.scheduler.running == engine.scheduler.waiting == 0


def request(max_tokens, *, temperature=0.0, **stop):
    return Request((1, 2), SamplingParams(temperature=temperature), StopParams(max_tokens, **stop))


def test_steps_like_the_last_one_are_computed_from_its_tokens():
    _, _, model = run([(request(30), 0, NEVER, NEVER)], repeats=True, steps=40)
    assert model.repeated > 20


def decoding(**changes):
    """An engine, and its model, that goes on with a sequence of 60 tokens."""
    engine, model = fake_engine(slots=SLOTS, chunk=CHUNK, cuts_freely=True)
    sequence = Sequence(request(60), 100, **changes)
    engine.scheduler.add(sequence)
    while not engine.goes_on:
        engine.step()
    return engine, model


def test_one_call_of_the_model_gives_several_tokens_while_nobody_is_to_be_told():
    engine, model = decoding(tell_at=NEVER)
    engine.step()
    assert model.repeated > 10


def test_one_call_gives_one_token_where_somebody_is_to_be_told():
    engine, model = decoding(tell_at=0.0)
    engine.step()
    assert model.repeated == 1


def test_a_call_that_is_interrupted_ends_with_the_token_that_is_computed():
    engine, model = decoding(tell_at=NEVER)
    engine.interrupt()
    engine.step()
    assert model.repeated == 1
    engine.heed()
    engine.step()
    assert model.repeated > 10


@pytest.mark.asyncio(loop_scope="session")
async def test_what_comes_in_ends_a_call_that_gives_several_tokens(monkeypatch):
    monkeypatch.setattr(multi_step, "_MOST_SECONDS", NEVER)
    engine, model = fake_engine(slots=SLOTS, chunk=CHUNK, cuts_freely=True)
    begun, came, steps = threading.Event(), threading.Event(), []
    again = model.again

    def held_again(*arguments):
        before = model.repeated
        begun.set()
        assert came.wait(PATIENCE)
        outputs = again(*arguments)
        steps.append(model.repeated - before)
        return outputs

    model.again = held_again
    # Nobody is to be told of anything but ends.
    runner = Runner(
        engine, Pacing(1e9), slots=SLOTS, max_queue=9, gives_way=False, on_death=pytest.fail
    )
    try:
        runner.start(runner.admit(), request(60), window=100)
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        other = runner.start(runner.admit(), request(1), window=100)
        came.set()
        assert await other.read()
        assert steps[0] == 1
    finally:
        came.set()
        await runner.stop()


def test_a_token_that_is_none_of_the_most_likely_ones_does_not_end_such_steps():
    script = [(request(30, temperature=3.0), 0, NEVER, NEVER)]
    (known,), _, model = run(script, repeats=True, steps=40)
    assert any(told.rank > 5 for _, told, *_ in known)
    assert model.repeated > 20
    assert run(script, repeats=False)[0] == [known]


def test_such_steps_go_on_beside_a_sequence_that_waits_for_orders():
    waiting = Request((1, 2, 3), SamplingParams(), StopParams(0), open=True)
    script = [(waiting, 0, NEVER, NEVER), (request(30), 0, NEVER, NEVER)]
    (outlook, known), _, model = run(script, repeats=True, steps=40)
    assert len(outlook) == 1
    assert model.repeated > 20
    assert run(script, repeats=False)[0] == [outlook, known]


def test_who_is_not_told_at_every_step_is_told_of_several_at_once():
    engine, _ = fake_engine(slots=SLOTS, chunk=CHUNK, cuts_freely=True)
    sequence = Sequence(request(20), 100, tell_at=NEVER)
    engine.scheduler.add(sequence)
    counts = [len(events) for _ in range(20) for _, events in engine.step()]
    assert sum(counts) == 20
    assert max(counts) > 10


@pytest.mark.parametrize("tell_at", [0.0, NEVER])
def test_a_sequence_that_nobody_reads_pauses_when_its_reader_is_a_window_behind(tell_at):
    known, engine, _ = run([(request(30), 0, NEVER, tell_at)], repeats=True, reads=False)
    assert [len(steps) for steps in known] == [WINDOW]
    assert not engine.has_work


@pytest.mark.asyncio(loop_scope="session")
async def test_a_step_does_not_depend_on_what_else_is_told_of_it(fp32_server):
    asked = {"max_tokens": 40, "ignore_eos": True, "temperature": 0.9, "seed": 3}
    few = await generate(fp32_server, "The sea", top_logprobs=5, **asked)
    more = await generate(fp32_server, "The sea", top_logprobs=5, token_ids=[7], **asked)
    assert [len(step.token_logprobs) for step in more.steps] == [1] * 40
    assert few.bits == more.bits
    for one, other in zip(few.steps, more.steps, strict=True):
        assert [(c.id, c.logprob) for c in one.top_logprobs] == [
            (c.id, c.logprob) for c in other.top_logprobs
        ]
        assert one.delta == other.delta
        assert one.margin == other.margin
