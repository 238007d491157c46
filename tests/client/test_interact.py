"""An interactive generation, through either client, from a service that plays by the rules."""

import asyncio
import gc
import threading

import grpc
import pytest
from support.fake_interact import PROMPT, PROMPT_IDS, TOKENS, FakeInteract, probabilities
from support.fake_service import Refuse

import nextok
from nextok.v1 import text_generation_pb2 as pb


@pytest.fixture
def service():
    return FakeInteract()


def check(branch, *token_ids):
    """Makes sure that a branch holds these tokens, each with what it was chosen from."""
    assert branch.token_ids == token_ids
    whole = PROMPT_IDS
    for step, token_id in zip(branch.steps, token_ids, strict=True):
        assert step.prob == pytest.approx(probabilities(whole)[token_id], rel=1e-6)
        whole = (*whole, token_id)
    assert branch.distribution.position == len(whole)
    best = branch.distribution.top_logprobs[0]
    assert best.prob == pytest.approx(max(probabilities(whole)), rel=1e-6)


async def test_actions_change_the_branch_and_tell_what_could_come_next(hands, target):
    async with hands.open(target) as client, hands.inside(client.interact(PROMPT)) as session:
        branch = session.branch
        check(branch)
        picked = await hands.get(branch.pick(5))
        assert (picked.id, picked.token, picked.forced) == (5, " there", True)
        check(branch, 5)
        drawn = await hands.get(branch.sample(3))
        assert [step.id for step in drawn] == [6, 7, 8]
        assert not drawn[0].forced
        check(branch, 5, 6, 7, 8)
        forced = await hands.get(branch.force(" a time"))
        assert [step.id for step in forced] == [2, 3]
        await hands.get(branch.force([4]))
        check(branch, 5, 6, 7, 8, 2, 3, 4)
        left = await hands.get(branch.rewind(5))
        assert left == branch.distribution
        check(branch, 5, 6)


async def test_text_is_that_of_whole_characters(hands, target):
    async with hands.open(target) as client, hands.inside(client.interact(PROMPT)) as session:
        await hands.get(session.branch.force([7]))
        assert session.branch.text == "\ufffd"
        await hands.get(session.branch.pick(8))
        assert session.branch.text == "é"


async def test_a_fork_is_a_copy_and_goes_its_own_way(hands, target):
    async with hands.open(target) as client, hands.inside(client.interact(PROMPT)) as session:
        first = session.branch
        await hands.get(first.sample(2))
        second = await hands.get(first.fork())
        assert (first.branch_id, second.branch_id) == (0, 1)
        await hands.get(first.pick(9))
        check(second, 3, 4)
        await hands.get(second.rewind())
        check(first, 3, 4, 9)
        check(second, 3)
        assert session.branches == (first, second)
        await hands.get(session.switch(second))
        assert session.branch == second
        await hands.get(first.drop())
        assert session.branches == (second,)
        assert first.dropped
        with pytest.raises(ValueError, match="0 was dropped"):
            await hands.get(first.pick(1))
        check(session.branch, 3)


async def test_stop_ends_the_call_and_counts_it(hands, target, service):
    async with hands.open(target) as client, hands.inside(client.interact(PROMPT)) as session:
        assert session.prompt.tokens.ids == PROMPT_IDS
        await hands.get(session.branch.sample())
        summary = await hands.get(session.stop())
        assert summary.usage.completion_tokens == 9
        assert session.summary == summary == await hands.get(session.stop())
        with pytest.raises(RuntimeError, match="has ended"):
            await hands.get(session.branch.pick(1))
    assert not service.given_up.is_set()


async def test_several_branches_are_told_before_any_answer_is_awaited(hands, target, service):
    # Start and two forks, then three actions of which none is answered before all have come.
    service.together = (3, 3)
    async with (
        hands.open(target) as client,
        hands.inside(client.interact(PROMPT, timeout=20)) as session,
    ):
        first = session.branch
        second, third = [await hands.get(first.fork()) for _ in range(2)]
        drawn = await hands.get(session.sample_all(2))
        assert [[step.id for step in steps] for steps in drawn] == [[3, 4]] * 3
        given = await hands.get(session.force_all({first: [1], third: " was"}))
        assert [[step.id for step in steps] for steps in given] == [[1], [6]]
        check(first, 3, 4, 1)
        check(second, 3, 4)
        check(third, 3, 4, 6)
        (only,) = await hands.get(session.sample_all(branches=[second]))
        assert only[0].id == 5


async def test_every_option_reaches_the_server(hands, target, service):
    async with hands.open(target) as client:
        session = client.interact(
            PROMPT,
            temperature=0.5,
            top_k=9,
            top_p=0.75,
            min_p=0.25,
            repetition_penalty=1.5,
            presence_penalty=0.125,
            frequency_penalty=-0.5,
            logit_bias={3: -2.0},
            seed=11,
            top_logprobs=4,
            logprob_token_ids=[1, 2],
            full_vocabulary=True,
            timeout=100,
        )
        async with hands.inside(session):
            assert len(session.branch.distribution.full_logprobs) == len(TOKENS)
    expected = pb.StartAction()
    expected.prompt.text = PROMPT
    sampling = expected.sampling
    sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p = 0.5, 9, 0.75, 0.25
    sampling.repetition_penalty, sampling.seed = 1.5, 11
    sampling.presence_penalty, sampling.frequency_penalty = 0.125, -0.5
    sampling.logit_bias[3] = -2.0
    expected.logprobs.top_logprobs = 4
    expected.logprobs.token_ids.extend([1, 2])
    expected.logprobs.full_vocabulary = True
    assert service.actions[0].start == expected
    assert 90 < service.time_left[0] < 102


async def test_how_tokens_are_drawn_is_kept_until_it_is_said_otherwise(hands, target, service):
    async with (
        hands.open(target) as client,
        hands.inside(client.interact(PROMPT, top_k=5, logit_bias={1: 2.0})) as session,
    ):
        branch = session.branch
        await hands.get(branch.sample(temperature=0.5, logit_bias={2: 1.0}))
        fork = await hands.get(branch.fork())
        await hands.get(fork.sample(top_p=0.25))
        await hands.get(branch.sample())
    said = [action.sample for action in service.actions if action.HasField("sample")]
    assert [sample.HasField("sampling") for sample in said] == [True, True, False]
    first, second = said[0].sampling, said[1].sampling
    # The seed is the one that the server picked: not said again, another would be.
    assert (first.top_k, first.temperature, first.seed) == (5, 0.5, 7)
    assert dict(first.logit_bias) == {2: 1.0}
    assert (second.top_k, second.temperature, second.top_p) == (5, 0.5, 0.25)


async def test_what_would_end_the_session_is_refused_before_it_is_sent(hands, target, service):
    async with hands.open(target) as client, hands.inside(client.interact(PROMPT)) as session:
        branch = session.branch
        with pytest.raises(ValueError, match="count: is 1, the range is 0 to 0"):
            await hands.get(branch.rewind())
        with pytest.raises(ValueError, match="count: is 0, the least is 1"):
            await hands.get(branch.sample(0))
        with pytest.raises(ValueError, match="token_id"):
            await hands.get(branch.pick(-1))
        with pytest.raises(TypeError, match="tokens"):
            await hands.get(branch.force(b"x"))
        await hands.get(branch.sample())
    assert [action.WhichOneof("action") for action in service.actions] == ["start", "sample"]


async def test_a_refusal_at_the_start_is_raised_on_entering(hands, target, service):
    service.refuse_at[0] = Refuse(grpc.StatusCode.INVALID_ARGUMENT, "prompt: is empty")
    async with hands.open(target) as client:
        with pytest.raises(nextok.InvalidArgument, match="is empty"):
            async with hands.inside(client.interact("")):
                pass


class Lost:
    """A call as grpc.aio leaves it whose end came while it was written to."""

    async def write(self, _request):
        raise self._error

    async def read(self):
        raise self._error

    def cancel(self):
        pass

    _error = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "Internal error"
    )


async def test_a_refusal_whose_status_was_lost_is_asked_for_again(target, service):
    service.refuse_at[0] = Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "is full")
    async with nextok.AsyncClient(target) as client:
        made = client._stub.Interact
        lost = [Lost(), Lost()]
        client._stub.Interact = lambda timeout: lost.pop() if lost else made(timeout=timeout)
        with pytest.raises(nextok.ResourceExhausted, match="is full"):
            await client.interact(PROMPT).start()
        assert not lost
        client._stub.Interact = lambda **_options: Lost()
        with pytest.raises(nextok.Internal):
            await client.interact(PROMPT).start()


async def test_a_refusal_ends_the_session_and_what_came_is_kept(hands, target, service):
    service.refuse_at[2] = Refuse(grpc.StatusCode.INVALID_ARGUMENT, "too large")
    async with hands.open(target) as client, hands.inside(client.interact(PROMPT)) as session:
        await hands.get(session.branch.sample())
        for _ in range(2):
            with pytest.raises(nextok.InvalidArgument, match="too large"):
                await hands.get(session.branch.pick(4_000_000_000))
        check(session.branch, 3)


async def test_an_answer_to_nothing_is_an_error(hands, target, service):
    service.stray_answers = True
    async with hands.open(target) as client:
        with pytest.raises(nextok.Internal, match="action 1"):
            async with hands.inside(client.interact(PROMPT)):
                pass


@pytest.mark.parametrize("way", ["with", "cancel", "forget", "close", "error"])
async def test_a_session_that_is_given_up_is_cancelled(hands, target, service, way):
    async with hands.open(target) as client:
        session = client.interact(PROMPT)
        await hands.get(session.start())
        if way == "with":
            async with hands.inside(session):
                pass
        if way == "error":
            with pytest.raises(ZeroDivisionError):
                async with hands.inside(session):
                    _ = 1 / 0
        if way == "cancel":
            session.cancel()
            with pytest.raises(nextok.Cancelled):
                await hands.get(session.branch.sample())
        if way == "forget":
            del session
            gc.collect()
        if way != "close":
            assert await asyncio.to_thread(service.given_up.wait, 10)
    assert await asyncio.to_thread(service.given_up.wait, 10)


def test_no_thread_is_left_behind(target):
    before = set(threading.enumerate())
    with nextok.Client(target) as client:
        for end in ("leave", "stop", "forget"):
            session = client.interact(PROMPT)
            session.start()
            if end == "stop":
                session.stop()
            if end == "leave":
                with session:
                    pass
        del session
        gc.collect()
    for thread in set(threading.enumerate()) - before:
        # Those of the fake's own pool stay until the test is over.
        if "ThreadPoolExecutor" not in thread.name:
            thread.join(10)
            assert not thread.is_alive(), thread


def test_threads_may_share_a_session(target):
    with nextok.Client(target) as client, client.interact(PROMPT) as session:
        branches = [session.branch, *(session.branch.fork() for _ in range(3))]

        def work(branch):
            for _ in range(20):
                branch.sample(2)

        threads = [threading.Thread(target=work, args=[branch]) for branch in branches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        expected = [(3 + i) % len(TOKENS) for i in range(40)]
        for branch in branches:
            check(branch, *expected)


async def test_tasks_may_share_a_session(target):
    async with nextok.AsyncClient(target) as client, client.interact(PROMPT) as session:
        branches = [session.branch, *[await session.branch.fork() for _ in range(3)]]
        for _ in range(10):
            await asyncio.gather(*[branch.sample(2) for branch in branches])
        for branch in branches:
            check(branch, *[(3 + i) % len(TOKENS) for i in range(20)])


async def test_cancelling_a_task_that_waits_gives_the_session_up(target, service):
    async with nextok.AsyncClient(target) as client, client.interact(PROMPT) as session:
        service.hold = threading.Event()
        task = asyncio.create_task(session.branch.sample())
        assert await asyncio.to_thread(service.holding.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(service.given_up.wait, 10)
        service.hold.set()


async def test_a_session_tells_nothing_before_it_has_begun(target):
    async with nextok.AsyncClient(target) as client:
        session = client.interact(PROMPT)
        with pytest.raises(RuntimeError, match="start"):
            _ = session.prompt
        with pytest.raises(RuntimeError, match="start"):
            _ = session.branch.distribution


async def test_a_notebook_shows_each_branch(hands, target):
    async with hands.open(target) as client, hands.inside(client.interact(PROMPT)) as session:
        await hands.get(session.branch.sample(2))
        await hands.get((await hands.get(session.branch.fork())).pick(9))
        html = session._repr_html_()
        assert html.count(" time</span>") == 2
        assert "2 branches" in repr(session)
        assert repr(session.branch).endswith("0: ' time,'>")
