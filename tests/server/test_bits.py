"""Same request, same bits: whoever the neighbours are."""

import asyncio

import numpy as np
import pytest
from support.serving import generate, generate_request, running_server

pytestmark = pytest.mark.asyncio(loop_scope="session")


def requests_of(seed: int, count: int):
    """Requests of many lengths, the borders of chunks and one-token prompts among them."""
    rng = np.random.default_rng(seed)
    lengths = [1, 2, 3, 63, 64, 65, 66, *rng.integers(1, 90, count - 7).tolist()]
    for index, length in enumerate(lengths):
        options = {"seed": index, "max_tokens": int(rng.integers(2, 30)), "ignore_eos": True}
        if index % 3 == 1:
            options |= {"temperature": 0.7, "top_p": 0.9}
        if index % 3 == 2:
            options |= {"repetition_penalty": 1.2, "temperature": 1.3}
        yield rng.integers(0, 50257, length).tolist(), options


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
async def test_32_streams_at_once_give_the_bits_of_32_alone(artifacts, precision):
    async with running_server(artifacts[precision]) as running:
        work = list(requests_of(1, 32))
        alone = [await generate(running, prompt, **options) for prompt, options in work]
        crowd = await asyncio.gather(*(generate(running, p, **options) for p, options in work))
    for single, together in zip(alone, crowd, strict=True):
        assert together.bits == single.bits
        assert together.text == single.text
        assert together.finish.digest == single.finish.digest


async def test_threads_and_chunk_length_do_not_change_bits(artifacts):
    work = list(requests_of(2, 10))
    replies = []
    for settings in ({"threads": 1}, {"threads": 2}, {"prefill_chunk": 16}, {"slots": 3}):
        async with running_server(artifacts["int8"], **settings) as running:
            found = await asyncio.gather(*(generate(running, p, **o) for p, o in work))
            replies.append([reply.bits for reply in found])
    assert replies[1:] == replies[:1] * 3


async def test_streams_that_leave_do_not_change_those_that_stay(artifacts):
    async with running_server(artifacts["int8"], slots=8) as running:
        work = list(requests_of(3, 12))
        alone = [await generate(running, prompt, **options) for prompt, options in work]

        async def leave(prompt):
            call = running.stub.Generate(generate_request(prompt, ignore_eos=True))
            await call.read()
            await call.read()
            call.cancel()

        crowd, *_ = await asyncio.gather(
            asyncio.gather(*(generate(running, p, **options) for p, options in work)),
            *(leave([index + 1] * 40) for index in range(20)),
        )
    assert [reply.bits for reply in crowd] == [reply.bits for reply in alone]
