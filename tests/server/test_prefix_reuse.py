"""Prefixes that are not computed again, through a real server: same bits, told truly."""

import asyncio
import mmap
import threading

import grpc
import numpy as np
import pytest
from support.serving import Reply, generate, generate_request, running_server

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.cache_memory import CacheMemory

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHUNK = 16


def prompts(seed: int, count: int, shared: int) -> list[list[int]]:
    """Prompts that share their first tokens, some wholly, with remainders of many lengths."""
    rng = np.random.default_rng(seed)
    prefix = rng.integers(0, 50257, shared).tolist()
    lengths = [0, 1, 1, 2, 15, 16, 17, *rng.integers(1, 40, count - 7).tolist()]
    return [[*prefix, *rng.integers(0, 50257, length).tolist()] for length in lengths]


def reusable(prompt: list[int]) -> int:
    return (len(prompt) - 1) // CHUNK * CHUNK


async def start(running, prompt, **fields):
    """A stream whose request is in the queue, or further."""
    call = running.stub.Generate(generate_request(prompt, ignore_eos=True, **fields))
    await call.read()
    return call


async def finish(call) -> Reply:
    """The rest of a stream."""
    messages = []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    return Reply(messages)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
async def test_a_reused_prefix_gives_the_bits_of_a_computed_one(artifacts, precision):
    async with running_server(artifacts[precision], prefill_chunk=CHUNK) as running:
        for index, prompt in enumerate(prompts(1, 12, shared=64)):
            options = {"max_tokens": 12, "seed": index, "ignore_eos": True}
            reused = await generate(running, prompt, **options)
            computed = await generate(running, prompt, bypass_prefix_reuse=True, **options)
            assert reused.bits == computed.bits
            assert reused.finish.digest == computed.finish.digest
            assert computed.usage.cached_tokens == 0
            assert reused.usage.cached_tokens >= min(48, reusable(prompt)) * (index > 0)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
async def test_32_that_share_prefixes_join_and_leave_with_the_bits_of_each_alone(
    artifacts, precision
):
    settings = {"prefill_chunk": CHUNK, "slots": 16, "retained_mb": 1}
    async with running_server(artifacts[precision], **settings) as running:
        work = [*prompts(2, 16, shared=70), *prompts(3, 16, shared=33)]
        np.random.default_rng(0).shuffle(work)
        options = [
            {"seed": i, "max_tokens": 3 + i * 7 % 17, "ignore_eos": True} for i in range(len(work))
        ]
        alone = [
            await generate(running, prompt, bypass_prefix_reuse=True, **own)
            for prompt, own in zip(work, options, strict=True)
        ]

        async def leave(prompt, messages):
            call = running.stub.Generate(generate_request(prompt, ignore_eos=True))
            for _ in range(messages):
                await call.read()
            call.cancel()

        crowd, *_ = await asyncio.gather(
            asyncio.gather(
                *(generate(running, p, **own) for p, own in zip(work, options, strict=True))
            ),
            *(leave([*prompt, index], 1 + index % 4) for index, prompt in enumerate(work[:12])),
        )
    for one, other in zip(alone, crowd, strict=True):
        assert other.bits == one.bits
        assert other.finish.digest == one.finish.digest
    assert sum(reply.usage.cached_tokens for reply in crowd) > 16 * 32


async def test_cached_tokens_are_whole_chunks_and_leave_at_least_one_to_compute(artifacts):
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK) as running:
        found = []
        base = list(range(1000, 1100))
        for length in (48, 48, 49, 50, 15, 16, 17, 100, 64):
            reply = await generate(running, base[:length], max_tokens=2, ignore_eos=True)
            found.append(reply.usage.cached_tokens)
            assert reply.usage.prompt_tokens == length
    assert found == [0, 32, 48, 48, 0, 0, 16, 48, 48]


async def test_generated_tokens_are_not_taken_for_a_prompt(artifacts):
    async with running_server(artifacts["fp32"], prefill_chunk=CHUNK) as running:
        prompt = list(range(2000, 2020))
        first = await generate(running, prompt, max_tokens=40, seed=1, ignore_eos=True)
        longer = [*prompt, *first.ids]
        second = await generate(running, longer, max_tokens=8, seed=1, ignore_eos=True)
        computed = await generate(
            running, longer, max_tokens=8, seed=1, ignore_eos=True, bypass_prefix_reuse=True
        )
    assert second.usage.cached_tokens == 16
    assert second.bits == computed.bits


async def test_a_prefix_that_many_ask_for_at_once_is_computed_once(artifacts, prefills):
    shared = list(range(3000, 3064))
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK) as running:
        prefills.allow(0)
        streams = [await start(running, [*shared, i, 7], max_tokens=3) for i in range(8)]
        prefills.release()
        cached = [(await finish(stream)).usage.cached_tokens for stream in streams]
    assert cached == [0] + [64] * 7
    chunks = [chunk for call in prefills.calls for chunk in call]
    assert sorted(chunks) == [(0, 4 * CHUNK), *[(64, 2)] * 8]
    # The remainders do not each take a step of their own.
    assert len(prefills.calls) <= 1 + 2


async def test_followers_go_on_where_the_one_that_computes_is_cancelled(artifacts, prefills):
    shared = list(range(4000, 4080))
    async with running_server(artifacts["fp32"], prefill_chunk=CHUNK) as running:
        options = {"max_tokens": 4, "seed": 3}
        prefills.allow(0)
        # One that tells of its prompt computes it chunk by chunk.
        leader = await start(running, shared, prompt_logprobs=True)
        followers = [await start(running, [*shared, i, 7], **options) for i in range(3)]
        prefills.allow(3)
        await prefills.are_held()
        # The leader's fourth chunk is planned, and the others wait for it.
        assert [chunk for call in prefills.calls for chunk in call] == [(0, 16), (16, 16), (32, 16)]
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader.read()
        await running.stub.GetModel(pb.GetModelRequest())
        prefills.release()
        replies = [await finish(follower) for follower in followers]
        assert [reply.usage.cached_tokens for reply in replies] == [64, 80, 80]
        for index, reply in enumerate(replies):
            alone = await generate(
                running, [*shared, index, 7], ignore_eos=True, bypass_prefix_reuse=True, **options
            )
            assert reply.bits == alone.bits


async def test_a_resumed_stream_reuses_its_prompt_and_keeps_its_bits(artifacts):
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK) as running:
        options = {"max_tokens": 20, "seed": 4, "ignore_eos": True}
        prompt = list(range(5000, 5070))
        whole = await generate(running, prompt, **options)
        for received in (1, 7, 19):
            rest = await generate(running, prompt, resume_token_ids=whole.ids[:received], **options)
            assert rest.usage.cached_tokens == 64
            assert rest.bits == whole.bits[received:]
            assert rest.finish.digest == whole.finish.digest


async def test_prompt_logprobs_are_computed_and_their_prompt_can_be_reused(artifacts):
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK) as running:
        prompt = list(range(6000, 6050))
        options = {"max_tokens": 6, "seed": 4, "ignore_eos": True}
        first = await generate(running, prompt, prompt_logprobs=True, **options)
        plain = await generate(running, prompt, **options)
        again = await generate(running, prompt, prompt_logprobs=True, **options)
    assert [r.usage.cached_tokens for r in (first, plain, again)] == [0, 48, 0]
    assert first.bits == plain.bits == again.bits
    assert [s.logprob for s in first.prompt_logprobs] == [s.logprob for s in again.prompt_logprobs]
    assert len(again.prompt_logprobs) == 50


async def test_prompt_logprobs_of_short_prompts_computed_together_are_each_ones_own(
    artifacts, prefills
):
    work = [list(range(100 * i, 100 * i + 2 + i)) for i in range(6)]
    async with running_server(artifacts["int8"]) as running:
        alone = [await generate(running, p, max_tokens=1, prompt_logprobs=True) for p in work]
        prefills.allow(0)
        streams = [await start(running, p, max_tokens=1, prompt_logprobs=True) for p in work]
        del prefills.calls[:]
        prefills.release()
        together = [await finish(stream) for stream in streams]
    assert max(len(call) for call in prefills.calls) > 1
    for one, other in zip(alone, together, strict=True):
        assert one.prompt_logprobs == other.prompt_logprobs


@pytest.mark.parametrize("settings", [{"prefix_reuse": False}, {"retained_mb": 0}])
async def test_reuse_can_be_turned_off_and_free_slots_can_be_kept_empty(artifacts, settings):
    async with running_server(artifacts["fp32"], prefill_chunk=CHUNK, **settings) as running:
        for _ in range(2):
            reply = await generate(running, list(range(50)), max_tokens=2)
            assert reply.usage.cached_tokens == 0
        model = await running.stub.GetModel(pb.GetModelRequest())
    offered = pb.CAPABILITY_PREFIX_REUSE in model.capabilities
    assert offered == ("prefix_reuse" not in settings)


async def test_an_idle_server_gives_memory_back(artifacts, monkeypatch):
    given_back = threading.Event()
    real = CacheMemory.discard

    def discard(self, slot, start):
        real(self, slot, start)
        given_back.set()

    monkeypatch.setattr(CacheMemory, "discard", discard)
    # A megabyte is 256 tokens here.
    async with running_server(artifacts["fp32"], retained_mb=1) as running:
        await generate(running, list(range(100)), max_tokens=20, ignore_eos=True)
        assert not given_back.is_set()
        await asyncio.gather(
            *(generate(running, [i] * 100, max_tokens=20, ignore_eos=True) for i in range(3))
        )
        assert await asyncio.to_thread(given_back.wait, 30)


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="no way to give memory back")
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.int8)])
async def test_memory_that_is_given_back_is_that_of_a_slots_last_tokens_alone(dtype):
    memory = CacheMemory(layers=2, slots=3, heads=2, capacity=320, head_dim=64, dtype=dtype)
    for array in memory.arrays.values():
        array[...] = 1
    assert memory.token_bytes == 2 * 2 * 2 * 64 * dtype.itemsize
    memory.discard(1, 130)
    for array in memory.arrays.values():
        assert (array[[0, 2]] == 1).all()
        for head in range(2):
            text = array[1, head]
            assert (text[:130] == 1).all()
            # All but the pages that it shares with what stays: less than one at either end.
            assert (text[130:] == 1).sum() * dtype.itemsize < 2 * mmap.PAGESIZE
            assert (text[130:] == 0).any()
