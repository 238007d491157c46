"""Scorings that are refused, given up, late, slow to be read: like any other request."""

import asyncio

import grpc
import pytest
from support.scoring import read_scores, score, score_request
from support.serving import generate, generate_request, running_server, violation

from nextok_server.model import Model

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHUNK = 16
LONG = [token % 50257 for token in range(0, 4000, 7)]

BAD = [
    ({"prompt": []}, "prompt.token_ids", "has 0 tokens, the range is 1 to 65536"),
    ({"prompt": ""}, "prompt.text", "has 0 tokens, the range is 1 to 65536"),
    ({"prompt": "a" * 65537}, "prompt.text", "has 65537 bytes, the limit is 65536"),
    ({"prompt": [5] * 65537}, "prompt.token_ids", "has 65537 tokens, the range is 1 to 65536"),
    ({"prompt": [1, 50257]}, "prompt.token_ids.ids[1]", "is 50257, the range is 0 to 50256"),
    (
        {"continuations": [[1], []]},
        "continuations[1].token_ids",
        "has 0 tokens, the range is 1 to 65536",
    ),
    ({"continuations": [""]}, "continuations[0].text", "has 0 tokens, the range is 1 to 65536"),
    (
        {"continuations": [[1], [2, 50257]]},
        "continuations[1].token_ids.ids[1]",
        "is 50257, the range is 0 to 50256",
    ),
    (
        {"continuations": [[1]] * 129},
        "continuations",
        "has 129 entries, the limit is 128 (max_continuations)",
    ),
    ({"stride": 0}, "stride", "is 0, the range is 1 to 128"),
    ({"stride": 129}, "stride", "is 129, the range is 1 to 128"),
    (
        {"prompt": [5] * 20_000, "stride": 1},
        "stride",
        "is 1, with which more than 1000000 tokens are computed for these texts, the limit "
        "(max_score_tokens)",
    ),
    (
        {"prompt": [5] * 7000, "continuations": [[5] * 200] * 100, "stride": 2},
        "stride",
        "is 2, with which more than 1000000 tokens are computed for these texts, the limit "
        "(max_score_tokens)",
    ),
    ({"top_logprobs": 65}, "logprobs.top_logprobs", "is 65, the range is 0 to 64"),
    (
        {"token_ids": [50257]},
        "logprobs.token_ids[0]",
        "is 50257, the range is 0 to 50256",
    ),
]


@pytest.mark.parametrize(("fields", "field", "description"), BAD)
async def test_bad_input_is_named_and_nothing_is_computed(
    fp32_server, monkeypatch, fields, field, description
):
    def compute(self, *args, **kwargs):
        raise AssertionError("computed")

    monkeypatch.setattr(Model, "forward", compute)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await score(fp32_server, **{"prompt": [1, 2], **fields})
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    named, said = violation(raised.value)
    assert named == field
    assert said.startswith(description)


async def test_a_prompt_without_a_source_is_named(fp32_server):
    request = score_request([1])
    request.continuations.add()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await read_scores(fp32_server.stub.Score(request))
    assert violation(raised.value)[0] == "continuations[0]"


@pytest.mark.parametrize("work", [(LONG,), (LONG[:60], [[n] * 9 for n in range(30)])])
async def test_a_cancelled_scoring_leaves_every_slot_to_others(artifacts, prefills, work):
    settings = {"slots": 2, "max_queue": 0, "prefill_chunk": CHUNK}
    async with running_server(artifacts["fp32"], **settings) as running:
        for chunks in (1, 2, 5):
            prefills.allow(chunks)
            call = running.stub.Score(score_request(*work))
            await call.read()
            await prefills.are_held()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await read_scores(call)
            prefills.release()
            replies = await asyncio.gather(
                *(generate(running, "hello", max_tokens=3, ignore_eos=True) for _ in range(2))
            )
            assert [len(reply.steps) for reply in replies] == [3, 3]


async def test_a_scoring_takes_one_place_however_many_texts_it_has(artifacts, prefills):
    async with running_server(artifacts["fp32"], slots=1, max_queue=1) as running:
        prefills.allow(0)
        many = running.stub.Score(score_request(LONG[:60], [[n] * 9 for n in range(30)]))
        await many.read()
        waits = running.stub.Generate(generate_request("hello there", max_tokens=1))
        await waits.read()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await score(running, "hello there")
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        prefills.release()
        assert len((await read_scores(many)).totals) == 30
        # Its place is free again.
        await score(running, "hello there")
        waits.cancel()


async def test_a_deadline_is_told_as_such_and_frees_the_slot(artifacts, prefills):
    async with running_server(artifacts["fp32"], slots=1, prefill_chunk=CHUNK) as running:
        prefills.allow(2)
        call = running.stub.Score(score_request(LONG), timeout=0.3)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await read_scores(call)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        prefills.release()
        assert len((await score(running, [1, 2, 3])).tokens) == 3


async def test_others_get_their_turn_between_the_windows_of_a_long_text(artifacts, prefills):
    async with running_server(artifacts["fp32"], slots=4) as running:
        prefills.allow(1)
        call = running.stub.Score(score_request(LONG))
        await call.read()
        await prefills.are_held()
        other = asyncio.create_task(generate(running, LONG[:100], max_tokens=1))
        text = asyncio.create_task(read_scores(call))
        # The other is in the queue once an rpc that came after it is answered.
        await score(running, [1])
        prefills.release()
        await other
        assert not text.done()
        assert len((await text).tokens) == len(LONG)


async def test_a_slow_reader_pauses_its_own_scoring_and_nobody_elses(artifacts):
    async with running_server(artifacts["fp32"], stream_window=4, prefill_chunk=CHUNK) as running:
        slow = running.stub.Score(score_request(LONG, full_vocabulary=True))
        await slow.read()
        for _ in range(3):
            reply = await generate(running, "you", max_tokens=40, ignore_eos=True)
            assert len(reply.steps) == 40
        rest = await read_scores(slow)
        assert [token.position for token in rest.tokens] == list(range(len(LONG)))


async def test_a_reader_that_never_reads_is_let_go_after_the_time_limit(artifacts):
    async with running_server(artifacts["fp32"], slots=1, write_timeout=1.0) as running:
        stuck = running.stub.Score(score_request(LONG, full_vocabulary=True))
        await stuck.read()
        assert len((await generate(running, "you", max_tokens=3, ignore_eos=True)).steps) == 3
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await read_scores(stuck)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_higher_priority_goes_first(artifacts, prefills):
    async with running_server(artifacts["fp32"], slots=1) as running:
        prefills.allow(0)
        blocker = running.stub.Score(score_request([1, 2, 3]))
        await blocker.read()
        await prefills.are_held()
        order, tasks = [], []

        async def finish(priority, call):
            await read_scores(call)
            order.append(priority)

        for priority in (-1, 0, 5):
            call = running.stub.Score(score_request([1, 2, 3], priority=priority))
            await call.read()
            tasks.append(asyncio.create_task(finish(priority, call)))
        prefills.release()
        await asyncio.gather(*tasks)
        assert order == [5, 0, -1]


async def test_a_stopping_server_finishes_the_scorings_it_has(artifacts, prefills):
    async with running_server(artifacts["fp32"], slots=1) as running:
        prefills.allow(1)
        call = running.stub.Score(score_request(LONG))
        await call.read()
        await prefills.are_held()
        stopping = asyncio.create_task(running.app.stop(30.0))
        # Still open: windows that are not started yet are part of what it has.
        prefills.release()
        assert len((await read_scores(call)).tokens) == len(LONG)
        await stopping


async def test_an_engine_fault_ends_a_scoring(artifacts, monkeypatch, capsys):
    async with running_server(artifacts["fp32"]) as running:

        def broken(self, *args, **kwargs):
            raise RuntimeError("secret detail")

        monkeypatch.setattr(Model, "forward", broken)
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await score(running, LONG)
            assert raised.value.code() is grpc.StatusCode.INTERNAL
            assert "secret" not in raised.value.details()
