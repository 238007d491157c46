"""Several completions of one prompt: each is what a request of its own gives, to the bit."""

import asyncio

import grpc
import numpy as np
import pytest
from support.serving import generate, generate_request, read_rest, running_server, violation

from nextok.v1 import text_generation_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHUNK = 16
SEED = 2**64 - 2
SAMPLED = {"temperature": 0.9, "seed": SEED, "max_tokens": 12, "top_logprobs": 3}


def ids_of(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed + length).integers(0, 50257, length).tolist()


def by_choice(reply):
    """Steps and ends of each completion, by its number, with all but time and the number itself."""
    found = {}
    for message in reply.messages:
        for step in message.steps:
            steps, _ = found.setdefault(step.choice, ([], []))
            step = type(step).FromString(step.SerializeToString())
            step.choice, step.elapsed_seconds = 0, 0.0
            steps.append(step)
        if message.HasField("finish"):
            finish = type(message.finish).FromString(message.finish.SerializeToString())
            finish.choice = 0
            found.setdefault(message.finish.choice, ([], []))[1].append(finish)
    return found


async def alone(server, prompt, number, **fields):
    seed = (fields.pop("seed") + number) % 2**64
    return by_choice(await generate(server, prompt, **fields, seed=seed))[0]


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
async def test_each_completion_has_the_bits_of_a_request_with_its_seed(artifacts, precision):
    async with running_server(artifacts[precision], prefill_chunk=CHUNK) as server:
        for length in (1, 7, 16, 17, 40):
            prompt = ids_of(length)
            reply = await generate(server, prompt, n=4, **SAMPLED)
            found = by_choice(reply)
            assert sorted(found) == [0, 1, 2, 3]
            assert len({tuple(step.id for step in steps) for steps, _ in found.values()}) == 4
            for number in range(4):
                assert found[number] == await alone(server, prompt, number, **SAMPLED)
            assert reply.prompt.seed == SEED


@pytest.mark.parametrize("drafts", [False, True])
@pytest.mark.parametrize("settings", [{"prefix_reuse": False}, {"slots": 2}, {"slots": 1}])
async def test_bits_do_not_depend_on_slots_and_reuse(artifacts, settings, drafts):
    work = {**SAMPLED, "temperature": 0.2, "max_tokens": 20, "drafts": drafts}
    prompt = ids_of(9) * 5
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK) as server:
        expected = by_choice(await generate(server, prompt, n=5, **work))
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK, **settings) as server:
        for bypass in (False, True):
            reply = await generate(server, prompt, n=5, bypass_prefix_reuse=bypass, **work)
            assert by_choice(reply) == expected


async def test_completions_in_a_crowd_have_the_bits_of_each_alone(artifacts):
    prompts = [ids_of(length) for length in (5, 33, 48, 60)]
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK, slots=6) as server:
        quiet = [by_choice(await generate(server, p, n=3, **SAMPLED)) for p in prompts]
        crowd = await asyncio.gather(*(generate(server, p, n=3, **SAMPLED) for p in prompts))
    assert [by_choice(reply) for reply in crowd] == quiet


@pytest.mark.parametrize("settings", [{}, {"prefix_reuse": False}])
@pytest.mark.parametrize("bypass", [False, True])
async def test_the_prompt_is_computed_once(artifacts, prefills, settings, bypass):
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK, **settings) as server:
        reply = await generate(server, ids_of(40), n=5, bypass_prefix_reuse=bypass, **SAMPLED)
    computed = sorted(chunk for call in prefills.calls for chunk in call)
    assert [start for start, _ in computed] == [0, *(start + size for start, size in computed)][:-1]
    assert sum(size for _, size in computed) == 40
    assert (reply.usage.prompt_tokens, reply.usage.cached_tokens) == (40, 0)
    assert reply.usage.completion_tokens == 5 * 12


async def test_prompt_logprobs_come_once_and_before_the_steps(fp32_server):
    alone = await generate(fp32_server, ids_of(70), max_tokens=3, seed=5, prompt_logprobs=True)
    reply = await generate(fp32_server, ids_of(70), n=3, max_tokens=3, seed=5, prompt_logprobs=True)
    assert reply.prompt_logprobs == alone.prompt_logprobs
    assert by_choice(reply)[0] == by_choice(alone)[0]


async def test_greedy_completions_are_all_the_same(fp32_server):
    found = by_choice(await generate(fp32_server, ids_of(9), n=3, temperature=0, max_tokens=5))
    assert [step.id for step in found[0][0]] == [step.id for step in found[2][0]]
    # The seed is among what a digest is made of.
    assert len({ends[0].digest for _, ends in found.values()}) == 3


async def test_each_completion_ends_by_itself_and_the_others_go_on(fp32_server):
    work = {"seed": 3, "max_tokens": 30, "ignore_eos": True}
    plain = by_choice(await generate(fp32_server, "Once upon a", n=3, **work))
    stop = plain[1][0][4].token
    reply = await generate(fp32_server, "Once upon a", n=3, stop=[stop], **work)
    found = by_choice(reply)
    for number in range(3):
        assert found[number] == await alone(fp32_server, "Once upon a", number, stop=[stop], **work)
    ends = [message.finish for message in reply.messages if message.HasField("finish")]
    assert sorted(end.choice for end in ends) == [0, 1, 2]
    (stopped,) = found[1][1]
    assert stopped.stop == stop
    assert stopped.completion_tokens <= 5
    assert reply.usage.completion_tokens == sum(end.completion_tokens for end in ends)
    assert [m.HasField("summary") for m in reply.messages].index(True) == len(reply.messages) - 1


async def test_one_token_each_takes_nothing_but_the_prompt(artifacts, prefills):
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK) as server:
        reply = await generate(server, ids_of(16), n=16, max_tokens=1, seed=1)
    assert prefills.calls == [[(0, 16)]]
    assert sorted(step.choice for step in reply.steps) == list(range(16))
    timings = reply.messages[-1].summary.timings
    assert min(timings.queue_seconds, timings.prefill_seconds) > 0


async def test_whole_vocabularies_of_several_come_in_messages_of_bounded_size(fp32_server):
    reply = await generate(fp32_server, [5], n=9, max_tokens=4, seed=1, full_vocabulary=True)
    assert len(reply.steps) == 36
    assert max(message.ByteSize() for message in reply.messages) < 4 << 20


async def test_a_cancelled_request_leaves_every_slot_to_others(artifacts):
    async with running_server(artifacts["fp32"], slots=4, max_queue=0) as server:
        for n in (2, 4, 9):
            request = generate_request("hello", n=n, ignore_eos=True)
            call = server.stub.Generate(request)
            while not (await call.read()).steps:
                pass
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await read_rest(call)
            work = [generate(server, "you", max_tokens=3, ignore_eos=True) for _ in range(4)]
            assert [len(reply.steps) for reply in await asyncio.gather(*work)] == [3] * 4


async def test_a_slow_reader_pauses_its_completions_and_nobody_else(artifacts):
    async with running_server(artifacts["fp32"], stream_window=4) as server:
        request = generate_request(
            "hello", n=2, max_tokens=24, full_vocabulary=True, ignore_eos=True
        )
        slow = server.stub.Generate(request)
        await slow.read()
        for _ in range(3):
            assert len((await generate(server, "you", max_tokens=40, ignore_eos=True)).ids) == 40
        steps = await read_rest(slow)
    for number in range(2):
        own = [step.index for step in steps if step.choice == number]
        assert own == list(range(24))


async def test_one_place_is_taken_and_the_prompt_is_counted_once(artifacts):
    async with running_server(
        artifacts["fp32"], slots=1, max_queue=0, max_tokens_per_minute=100
    ) as server:
        await generate(server, ids_of(60), n=3, max_tokens=11, ignore_eos=True)
        # 60 and 33 were computed: something is left, for a prompt that takes more than that.
        await generate(server, ids_of(60), n=3, max_tokens=1, ignore_eos=True)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await generate(server, "you")
    assert "100 tokens a minute" in raised.value.details()


BAD = [
    ({"n": 0}, "n", "is 0, the range is 1 to 16 (max_choices)"),
    ({"n": 17}, "n", "is 17, the range is 1 to 16 (max_choices)"),
    (
        {"n": 2, "resume_token_ids": [1, 2]},
        "resume_token_ids",
        "has 2 entries, the range is 0 to 0 where n is 2: go on with each completion by itself, "
        "with its own seed",
    ),
]


@pytest.mark.parametrize(("fields", "field", "description"), BAD)
async def test_what_is_out_of_range_is_named(fp32_server, fields, field, description):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await generate(fp32_server, "hello", **fields)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violation(raised.value) == (field, description)


async def test_get_model_tells_the_limit(fp32_server):
    model = await fp32_server.stub.GetModel(pb.GetModelRequest())
    assert pb.CAPABILITY_CHOICES in model.capabilities
    assert model.limits.max_choices == 16
