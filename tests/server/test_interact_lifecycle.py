"""Interactive calls that are refused, idle, parked, given up, late: what they cost others."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from support.interacting import Session, action, session, start_request
from support.scoring import score
from support.serving import generate, generate_request, read_rest, running_server, violation

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.model import Model

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROMPT = [464, 3139, 286, 4881, 318]
LONG = [token % 50257 for token in range(0, 700, 7)]

BAD_STARTS = [
    (pb.InteractRequest(), "start", "is missing"),
    (action("pick", token_id=1), "start", "is missing"),
    (start_request([]), "start.prompt.token_ids", "has 0 tokens, the range is 1 to 128"),
    (start_request([1] * 129), "start.prompt.token_ids", "has 129 tokens, the range is 1 to 128"),
    (start_request([50257]), "start.prompt.token_ids.ids[0]", "is 50257, the range is 0 to 50256"),
    (start_request([1], temperature=-1), "start.sampling.temperature", "is -1, the range is 0 to"),
    (start_request([1], top_logprobs=65), "start.logprobs.top_logprobs", "is 65, the range is 0"),
    (
        pb.InteractRequest(branch_id=1, start=start_request([1]).start),
        "branch_id",
        "is 1, a call begins with branch 0",
    ),
]
BAD_ACTIONS = [
    (pb.InteractRequest(), "action", "is missing"),
    (start_request([1]), "start", "comes again"),
    (action("pick", token_id=50257), "pick.token_id", "is 50257, the range is 0 to 50256"),
    (action("pick", 3, token_id=1), "branch_id", "is 3, which is no branch of this call"),
    (action("sample", count=0), "sample.count", "is 0, the least is 1"),
    (
        action("sample", count=200),
        "sample.count",
        "is 200, the most is 122: branch 0 has 6 of the 128 tokens of the context",
    ),
    (
        action("sample", sampling={"top_p": 0.0}),
        "sample.sampling.top_p",
        "is 0, the range is over 0 to 1",
    ),
    (action("force", tokens=[]), "force.tokens.token_ids", "has 0 tokens, the least is 1"),
    (action("force", tokens=""), "force.tokens.text", "has 0 tokens, the least is 1"),
    (
        action("force", tokens=[1, 50257]),
        "force.tokens.token_ids.ids[1]",
        "is 50257, the range is 0 to 50256",
    ),
    (
        action("force", tokens=[1] * 123),
        "force.tokens",
        "has 123 tokens, the most is 122: branch 0 has 6 of the 128 tokens of the context",
    ),
    (pb.InteractRequest(force=pb.ForceAction()), "force.tokens", "has no source"),
    (action("rewind", count=2), "rewind.count", "is 2, the range is 0 to 1"),
]


async def use_every_slot(running, slots) -> None:
    """Runs as many requests at once as there are slots; none may wait for another."""
    for _ in range(2000):
        try:
            replies = await asyncio.gather(
                *(generate(running, "hello", max_tokens=3, ignore_eos=True) for _ in range(slots))
            )
        except grpc.aio.AioRpcError as error:
            # The server has not heard yet that the call is over.
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            await asyncio.sleep(0.01)
        else:
            assert [len(reply.steps) for reply in replies] == [3] * slots
            return
    raise AssertionError("no room")


async def refusal(call: Session) -> grpc.aio.AioRpcError:
    """The error that a call ends with, after the answers to what came before."""
    try:
        while True:
            await call.read()
    except grpc.aio.AioRpcError as error:
        return error


@pytest.mark.parametrize(("request_", "field", "description"), BAD_STARTS)
async def test_a_bad_beginning_is_named_and_nothing_is_computed(
    fp32_server, monkeypatch, request_, field, description
):
    def compute(self, *args, **kwargs):
        raise AssertionError("computed")

    monkeypatch.setattr(Model, "forward", compute)
    call = Session(fp32_server.stub.Interact())
    await call.send(request_)
    error = await refusal(call)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    named, said = violation(error)
    assert named == field
    assert said.startswith(description)


@pytest.mark.parametrize(("request_", "field", "description"), BAD_ACTIONS)
async def test_a_bad_action_ends_the_call_after_the_answers_to_those_before(
    fp32_server, request_, field, description
):
    async with session(fp32_server, PROMPT) as (call, _):
        await call.send(action("pick", token_id=5), request_, action("stop"))
        assert [step.id for step in (await call.read()).steps] == [5]
        error = await refusal(call)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    named, said = violation(error)
    assert named == field
    assert said.startswith(description)
    assert said.endswith("(action 2)")


async def test_a_call_without_a_request_is_named_as_such(fp32_server):
    call = fp32_server.stub.Interact(iter(()))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    assert violation(raised.value)[0] == "start"


async def test_a_constraint_that_is_no_form_is_named(fp32_server):
    request = start_request(PROMPT)
    request.start.constraint.regex = "("
    call = Session(fp32_server.stub.Interact())
    await call.send(request)
    assert violation(await refusal(call))[0] == "start.constraint.regex"


async def test_text_that_is_not_utf8_is_named(fp32_server):
    request = start_request("xx").SerializeToString().replace(b"xx", b"\xff\xfe")
    method = "/nextok.v1.TextGenerationService/Interact"
    call = fp32_server.channel.stream_stream(method)(iter([request]))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    assert violation(raised.value) == ("start.prompt.text", "is not valid UTF-8")


async def test_a_dropped_branch_is_gone_and_has_to_be_switched_away_from(fp32_server):
    async with session(fp32_server, PROMPT) as (call, _):
        await call.do("fork")
        assert not (await call.do("drop")).HasField("distribution")
        assert (await call.do("sample", 1)).branch_id == 1
        await call.send(action("sample"))
        error = await refusal(call)
        assert violation(error)[0] == "branch_id"
        assert "0, which was switched to last, was dropped" in violation(error)[1]
    async with session(fp32_server, PROMPT) as (call, _):
        await call.send(action("fork"), action("drop", 1), action("pick", 1, token_id=1))
        assert "is 1, which was dropped" in violation(await refusal(call))[1]


async def test_there_are_only_so_many_branches_at_a_time(artifacts):
    async with (
        running_server(artifacts["fp32"], max_branches=3) as running,
        session(running, PROMPT) as (call, _),
    ):
        await call.send(action("fork"), action("fork"), action("drop", 1), action("fork"))
        assert [(await call.read()).branch_id for _ in range(4)] == [1, 2, 1, 3]
        await call.send(action("fork"))
        named, said = violation(await refusal(call))
        assert named == "fork"
        assert said.startswith("makes branch 4, the limit is 3 (max_branches)")


async def test_more_actions_than_may_wait_are_answered_all_the_same(artifacts):
    async with (
        running_server(artifacts["fp32"], max_pending_actions=2) as running,
        session(running, PROMPT) as (call, _),
    ):
        await call.send(*[action("pick", token_id=token) for token in range(50)])
        answers = [await call.read() for _ in range(50)]
        assert [answer.steps[0].id for answer in answers] == list(range(50))


async def test_an_idle_branch_gives_its_slot_to_others_and_comes_back_with_the_same_bits(
    artifacts,
):
    settings = {"slots": 1, "branch_idle_seconds": 0.05, "retained_mb": 0, "prefill_chunk": 16}
    options = {"seed": 4, "top_logprobs": 3}
    async with running_server(artifacts["fp32"], **settings) as running:
        whole = await generate(running, LONG[:40], max_tokens=9, ignore_eos=True, **options)
        async with session(running, LONG[:40], **options) as (call, _):
            await call.send(action("sample", count=4))
            drawn = [(await call.read()).steps[0] for _ in range(4)]
            # There is one slot: this waits until the branch is parked.
            other = await generate(running, [7] * 50, max_tokens=5, ignore_eos=True)
            assert len(other.steps) == 5
            await call.send(action("sample", count=5))
            drawn += [(await call.read()).steps[0] for _ in range(5)]
        bits = [(step.id, step.logprob, step.entropy) for step in drawn]
        assert bits == whole.bits


async def test_a_slot_is_kept_while_there_is_patience(artifacts):
    async with running_server(artifacts["fp32"], slots=1, branch_idle_seconds=1000) as running:
        async with session(running, PROMPT) as (call, _):
            await call.do("sample")
            waits = running.stub.Generate(generate_request(PROMPT, max_tokens=2), timeout=0.5)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await read_rest(waits)
            assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await call.do("sample")
        await use_every_slot(running, 1)


async def test_more_branches_than_slots_do_not_wait_for_each_other(artifacts):
    async with (
        running_server(artifacts["fp32"], slots=2, branch_idle_seconds=1000) as running,
        session(running, PROMPT, seed=1) as (call, _),
    ):
        await call.send(*[action("fork") for _ in range(7)])
        await call.send(*[action("sample", branch, count=30) for branch in range(8)])
        for _ in range(7):
            await call.read()
        drawn = [(await call.read()).steps[0].id for _ in range(8 * 30)]
        assert [drawn[start : start + 30] for start in range(0, 240, 30)] == [drawn[:30]] * 8


@pytest.mark.parametrize("how", ["cancel", "deadline", "error", "disconnect"])
async def test_a_call_that_ends_early_leaves_every_slot_to_others(artifacts, how):
    async with running_server(artifacts["fp32"], slots=4, max_queue=0) as running:
        for _ in range(3):
            channel = grpc.aio.insecure_channel(running.target)
            stub = type(running.stub)(channel)
            call = Session(stub.Interact(timeout=0.5 if how == "deadline" else None))
            await call.send(start_request(PROMPT), *[action("fork") for _ in range(5)])
            await call.send(*[action("sample", branch, count=100) for branch in range(6)])
            await call.read()
            if how == "cancel":
                call.call.cancel()
            elif how == "deadline":
                await asyncio.wait_for(call.call.code(), 60)
                assert await call.call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            elif how == "error":
                await call.send(action("pick", 99, token_id=1))
                assert (await refusal(call)).code() is grpc.StatusCode.INVALID_ARGUMENT
            await channel.close()
            await use_every_slot(running, 4)


async def test_a_call_takes_one_place_however_many_branches_it_has(artifacts):
    async with (
        running_server(artifacts["fp32"], slots=1, max_queue=1) as running,
        session(running, PROMPT) as (call, _),
    ):
        await call.send(*[action("fork") for _ in range(5)])
        for _ in range(5):
            await call.read()
        async with session(running, PROMPT):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await score(running, "hello there")
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_call_that_asks_for_nothing_is_let_go_and_one_that_waits_is_not(artifacts):
    async with running_server(artifacts["fp32"], action_timeout=0.3) as running:
        async with session(running, PROMPT) as (call, _):
            error = await refusal(call)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "no action came within 0.3 s" in error.details()
        silent = Session(running.stub.Interact())
        assert (await refusal(silent)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        async with session(running, PROMPT) as (call, _):
            await call.send(action("sample", count=100))
            for _ in range(100):
                await call.read()
            await call.stop()


async def test_a_reader_that_never_reads_is_let_go_after_the_time_limit(artifacts):
    async with (
        running_server(artifacts["fp32"], slots=1, write_timeout=1.0) as running,
        session(running, PROMPT, full_vocabulary=True) as (call, _),
    ):
        await call.send(action("sample", count=100))
        await call.read()
        assert len((await generate(running, "you", max_tokens=3, ignore_eos=True)).steps) == 3
        assert (await refusal(call)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_stopping_server_answers_what_it_was_asked_and_ends_the_call(artifacts):
    async with (
        running_server(artifacts["fp32"]) as running,
        session(running, PROMPT) as (call, _),
    ):
        await call.send(action("sample", count=100))
        await call.read()
        stopping = asyncio.create_task(running.app.stop(1000.0))
        for _ in range(99):
            assert len((await call.read()).steps) == 1
        assert (await refusal(call)).code() is grpc.StatusCode.UNAVAILABLE
        # It does not wait for what might still be asked.
        await stopping


async def test_an_engine_fault_ends_a_call(artifacts, monkeypatch):
    async with running_server(artifacts["fp32"]) as running, session(running, PROMPT) as (call, _):

        def broken(self, *args, **kwargs):
            raise RuntimeError("secret detail")

        async with session(running, PROMPT) as (idle, _):
            monkeypatch.setattr(Model, "forward", broken)
            for one, request in ((call, action("sample")), (idle, action("fork"))):
                await one.send(request)
                error = await refusal(one)
                assert error.code() is grpc.StatusCode.INTERNAL
                assert "secret" not in error.details()


async def test_a_caller_that_has_used_up_its_tokens_waits_for_more(artifacts):
    async with running_server(artifacts["fp32"], max_tokens_per_minute=600) as running:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with session(running, PROMPT) as (call, _):
            for _ in range(6):
                await call.do("force", tokens=LONG)
                await call.do("rewind", count=len(LONG))
            await call.stop()
        # Ten a second are earned besides the 600 that were there.
        spent = len(PROMPT) + 6 * (len(LONG) + 1)
        assert loop.time() - began >= (spent - 600) / 10


async def test_a_caller_may_have_so_many_calls_and_no_more(artifacts):
    async with (
        running_server(artifacts["fp32"], max_streams_per_caller=1) as running,
        session(running, PROMPT) as (call, _),
    ):
        other = Session(running.stub.Interact())
        await other.send(start_request(PROMPT))
        assert (await refusal(other)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await call.stop()
