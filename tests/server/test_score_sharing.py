"""What scorings compute, and what they take from each other: once, and to the same bits."""

import asyncio

import numpy as np
import pytest
from support.scoring import read_scores, score, score_request
from support.serving import generate, running_server

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHUNK = 16


def ids_of(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed + length).integers(0, 50257, length).tolist()


def bits(reply):
    return [(t.continuation, t.position, t.id, t.logprob, t.entropy) for t in reply.tokens]


WORK = [
    (ids_of(90), [ids_of(n, seed=n) for n in (5, 1, 5, 2, 17, 30)]),
    (ids_of(81), [ids_of(n, seed=n) for n in (5, 5, 5, 5)]),
    (ids_of(80), [ids_of(n, seed=n) for n in (1, 2, 3)]),
    (ids_of(3), [ids_of(n, seed=n) for n in (40, 7)]),
    (ids_of(100), [ids_of(n, seed=n) for n in (60, 5, 61, 4)]),
    (ids_of(400), []),
    (ids_of(70), []),
]


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
async def test_reuse_on_and_off_agree_to_the_bit(artifacts, precision):
    found = []
    for settings, bypassing in (
        ({}, (False, True, False)),
        ({"prefix_reuse": False}, (False,)),
        ({"retained_mb": 0, "slots": 2}, (False, True)),
        ({"slots": 1}, (False, True)),
    ):
        async with running_server(artifacts[precision], prefill_chunk=CHUNK, **settings) as running:
            for bypass in bypassing:
                replies = [await score(running, *work, bypass_prefix_reuse=bypass) for work in WORK]
                found.append([bits(reply) for reply in replies])
    assert found[1:] == found[:1] * (len(found) - 1)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
async def test_scorings_in_a_crowd_have_the_bits_of_each_alone(artifacts, precision):
    async with running_server(artifacts[precision], prefill_chunk=CHUNK, slots=8) as running:
        alone = [await score(running, *work, bypass_prefix_reuse=True) for work in WORK]
        crowd = await asyncio.gather(
            *(score(running, *work) for work in WORK),
            *(generate(running, prompt[:90], max_tokens=20) for prompt, _ in WORK),
        )
    for one, other in zip(alone, crowd, strict=False):
        assert bits(other) == bits(one)


async def test_a_continuations_bits_do_not_depend_on_its_neighbours(artifacts):
    prompt, continuations = WORK[0]
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK) as running:
        together = await score(running, prompt, continuations)
        for index, ids in enumerate(continuations):
            alone = await score(running, prompt, [ids], bypass_prefix_reuse=True)
            expected = [t.logprob for t in together.tokens if t.continuation == index]
            assert alone.logprobs == expected


@pytest.mark.parametrize("settings", [{}, {"prefix_reuse": False}])
@pytest.mark.parametrize("bypass", [False, True])
async def test_the_prompt_is_computed_once_and_its_continuations_in_one_pass(
    artifacts, prefills, settings, bypass
):
    prompt, work = ids_of(70), [ids_of(5, seed=n) for n in range(4)]
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK, **settings) as running:
        # The second one finds what the first one left, if it may.
        for _ in range(2):
            del prefills.calls[:]
            reply = await score(running, prompt, work, bypass_prefix_reuse=bypass)
            whole = [(place, CHUNK) for place in range(0, 64, CHUNK)]
            kept = bypass or settings or reply.summary.usage.cached_tokens == 0
            if kept:
                assert prefills.calls == [*([chunk] for chunk in whole), [(64, 6)], [(70, 4)] * 4]
            else:
                # Others than the first find the prompt's end, too, and do not wait for it.
                assert sorted(chunk for call in prefills.calls for chunk in call) == [
                    (64, 6),
                    *[(70, 4)] * 4,
                ]
                assert len(prefills.calls) == 2
            cached = 0 if kept else 64
            assert reply.summary.usage.cached_tokens == cached
            assert reply.summary.computed_tokens == 70 - cached + 4 * 4
        assert bool(cached) == (not bypass and not settings)


async def test_first_tokens_of_all_continuations_take_nothing_but_the_prompt(artifacts, prefills):
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK) as running:
        reply = await score(running, ids_of(40), [[n] for n in range(20)])
    assert prefills.calls == [[(0, 16)], [(16, 16)], [(32, 8)]]
    assert [total.scored_tokens for total in reply.totals] == [1] * 20
    assert reply.summary.computed_tokens == 40


async def test_a_scored_text_is_computed_and_leaves_its_chunks_to_others(artifacts):
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK) as running:
        ids = ids_of(70)
        first = await score(running, ids)
        again = await score(running, ids)
        plain = await generate(running, ids, max_tokens=4, seed=1)
        bypassed = await generate(running, ids, max_tokens=4, seed=1, bypass_prefix_reuse=True)
    assert bits(first) == bits(again)
    assert len(again.logprobs) == 69
    assert again.summary.usage.cached_tokens == 0
    assert plain.usage.cached_tokens == 64
    assert plain.bits == bypassed.bits


async def test_continuations_take_the_prompt_that_a_generation_computed(artifacts):
    async with running_server(artifacts["int8"], prefill_chunk=CHUNK) as running:
        prompt, work = ids_of(90), [ids_of(4, seed=1), ids_of(9, seed=2)]
        await generate(running, prompt, max_tokens=3)
        reused = await score(running, prompt, work)
        computed = await score(running, prompt, work, bypass_prefix_reuse=True)
    assert reused.summary.usage.cached_tokens == 80
    assert computed.summary.usage.cached_tokens == 0
    assert bits(reused) == bits(computed)


async def test_results_come_before_the_last_chunk_is_computed(artifacts, prefills):
    async with running_server(artifacts["fp32"], prefill_chunk=CHUNK) as running:
        prefills.allow(1)
        call = running.stub.Score(score_request(ids_of(100)))
        scored = []
        while len(scored) < CHUNK + 1:
            scored += (await call.read()).tokens
        # The engine stands before the second of seven chunks.
        assert [token.position for token in scored] == list(range(CHUNK + 1))
        assert len(prefills.calls) == 1
        prefills.release()
        rest = await read_scores(call)
    assert [token.position for token in rest.tokens] == list(range(CHUNK + 1, 100))
    assert len(prefills.calls) == 7


async def test_results_of_a_long_text_come_before_its_last_window_is_computed(artifacts, prefills):
    async with running_server(artifacts["fp32"]) as running:
        prefills.allow(2)
        call = running.stub.Score(score_request(ids_of(1000)))
        scored = []
        # As many as the first chunk tells; the second may be the next window's.
        while len(scored) < 65:
            scored += (await call.read()).tokens
        assert len(prefills.calls) <= 2
        prefills.release()
        rest = await read_scores(call)
    assert len(prefills.calls) > 4
    assert [token.position for token in [*scored, *rest.tokens]] == list(range(1000))
