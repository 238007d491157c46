"""Interact: what each action does, and what its answer tells."""

from __future__ import annotations

import asyncio
import math

import grpc
import numpy as np
import pytest
from support.interacting import action, session, start_request
from support.serving import generate, running_server

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok_server.model import Model

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROMPT = [464, 3139, 286, 4881, 318]
SHOWN = {"top_logprobs": 8, "token_ids": [50256, 11]}


def told(message: types.Step | pb.Distribution) -> tuple:
    """Everything that a message says of a distribution."""
    return (
        [c.SerializeToString(deterministic=True) for c in message.top_logprobs],
        [c.SerializeToString(deterministic=True) for c in message.token_logprobs],
        list(message.full_logprobs),
        message.entropy,
        message.top_mass,
        message.tail_mass,
        message.margin,
    )


async def test_the_first_answer_reads_the_prompt_and_says_what_could_come_next(
    fp32_server, torch_logprobs
):
    async with session(fp32_server, PROMPT, seed=7, temperature=0.7, **SHOWN) as (call, first):
        assert first.action_index == 0
        assert first.branch_id == 0
        assert [token.id for token in first.prompt.tokens] == PROMPT
        assert first.prompt.seed == 7
        assert first.prompt.max_tokens == 128 - len(PROMPT)
        assert first.distribution.position == len(PROMPT)
        expected = torch_logprobs(PROMPT)[-1]
        top = first.distribution.top_logprobs
        assert [c.id for c in top] == np.argsort(-expected, kind="stable")[:8].tolist()
        assert np.allclose([c.logprob for c in top], np.sort(expected)[::-1][:8], atol=1e-4)
        assert [c.id for c in first.distribution.token_logprobs] == [50256, 11]
        scaled = np.exp(expected / 0.7)
        assert np.allclose(
            [c.prob for c in top], np.sort(scaled / scaled.sum())[::-1][:8], atol=1e-5
        )
        assert math.isclose(
            first.distribution.entropy, -(np.exp(expected) * expected).sum(), rel_tol=1e-4
        )
        summary = (await call.stop()).summary
        assert summary.usage.prompt_tokens == len(PROMPT)
        assert summary.usage.completion_tokens == 0


async def test_picked_tokens_are_told_as_generate_tells_them(fp32_server):
    whole = await generate(fp32_server, PROMPT, max_tokens=6, temperature=0, **SHOWN)
    async with session(fp32_server, PROMPT, temperature=0, **SHOWN) as (call, answer):
        for step in whole.steps:
            assert told(answer.distribution) == told(step)
            answer = await call.do("pick", token_id=step.id)
            (picked,) = answer.steps
            assert told(picked) == told(step)
            assert (picked.id, picked.logprob, picked.rank) == (step.id, step.logprob, step.rank)
            assert (picked.index, picked.delta) == (step.index, step.delta)
            assert picked.forced
            assert not step.forced
            assert answer.distribution.position == len(PROMPT) + step.index + 1


async def test_a_token_that_no_filter_would_have_left_in_can_be_picked(fp32_server):
    async with session(fp32_server, PROMPT, top_k=1, top_logprobs=64) as (call, first):
        last = first.distribution.top_logprobs[-1]
        assert not last.kept
        (step,) = (await call.do("pick", token_id=last.id)).steps
        assert (step.id, step.logprob, step.rank, step.prob) == (last.id, last.logprob, 64, 0)


async def test_sampled_tokens_are_those_that_generate_draws_one_answer_each(fp32_server):
    options = {"seed": 5, "temperature": 0.9, "frequency_penalty": 0.4, **SHOWN}
    whole = await generate(fp32_server, PROMPT, max_tokens=12, ignore_eos=True, **options)
    async with session(fp32_server, PROMPT, **options) as (call, first):
        before = first.distribution
        await call.send(action("sample"), action("sample", count=11))
        answers = [await call.read() for _ in range(12)]
        assert [answer.action_index for answer in answers] == [1] + [2] * 11
        for answer, step in zip(answers, whole.steps, strict=True):
            (drawn,) = answer.steps
            assert told(before) == told(drawn) == told(step)
            assert (drawn.id, drawn.prob, drawn.index) == (step.id, step.prob, step.index)
            assert not drawn.forced
            before = answer.distribution
        summary = (await call.stop()).summary
        assert summary.usage.completion_tokens == 12


async def test_other_parameters_count_from_then_on_and_keep_the_seed(fp32_server):
    hot = {"temperature": 1.5, "repetition_penalty": 1.4}
    async with session(fp32_server, PROMPT, seed=3, temperature=0, **SHOWN) as (call, _):
        greedy = (await call.do("sample")).steps[0]
        answers = [await call.do("sample", sampling=hot), await call.do("sample")]
    given = {"resume_token_ids": [greedy.id], "max_tokens": 4, "ignore_eos": True, "seed": 3}
    whole = await generate(fp32_server, PROMPT, **given, **hot, **SHOWN)
    assert [answer.steps[0].id for answer in answers] == whole.ids[:2]
    assert told(answers[0].steps[0]) == told(whole.steps[0])
    assert [told(answer.distribution) for answer in answers] == [
        told(step) for step in whole.steps[1:]
    ]


async def test_forced_text_is_tokenized_by_itself_and_answered_at_once(fp32_server):
    async with session(fp32_server, PROMPT, **SHOWN) as (call, _):
        answer = await call.do("force", tokens=" the city of lights")
        ids = [step.id for step in answer.steps]
        assert len(ids) > 3
        assert "".join(step.delta for step in answer.steps) == " the city of lights"
        assert all(step.forced for step in answer.steps)
        whole = await generate(
            fp32_server, PROMPT, resume_token_ids=ids, max_tokens=len(ids) + 1, **SHOWN
        )
        assert told(whole.steps[0]) == told(answer.distribution)


async def test_characters_are_not_cut_whatever_is_taken_off(fp32_server):
    reply = await fp32_server.stub.Tokenize(pb.TokenizeRequest(text="日本"))
    ids = [token.id for token in reply.tokens]
    async with session(fp32_server, PROMPT) as (call, _):
        steps = list((await call.do("force", tokens=ids)).steps)
        assert "".join(step.delta for step in steps) == "日本"
        await call.do("rewind", count=len(ids) - 1)
        again = list((await call.do("force", tokens=ids[1:])).steps)
        assert [step.delta for step in again] == [step.delta for step in steps[1:]]
        assert [step.index for step in again] == [step.index for step in steps[1:]]


async def test_what_is_drawn_after_a_rewind_is_the_same_until_something_else_is_asked_for(
    fp32_server,
):
    async with session(fp32_server, PROMPT, seed=11) as (call, first):
        await call.send(action("sample", count=5))
        drawn = [(await call.read()).steps[0].id for _ in range(5)]
        back = await call.do("rewind", count=5)
        assert told(back.distribution) == told(first.distribution)
        await call.send(action("sample", count=5))
        assert [(await call.read()).steps[0].id for _ in range(5)] == drawn
        await call.do("rewind", count=5)
        await call.send(action("sample", count=5, sampling={"seed": 12}))
        assert [(await call.read()).steps[0].id for _ in range(5)] != drawn


async def test_a_fork_is_a_copy_that_goes_its_own_way(fp32_server):
    async with session(fp32_server, PROMPT, seed=2, **SHOWN) as (call, _):
        await call.do("force", tokens=" a b")
        before = await call.do("sample")
        copy = await call.do("fork")
        assert copy.branch_id == 1
        assert told(copy.distribution) == told(before.distribution)
        # It draws the same.
        own = await call.do("sample")
        its = await call.do("sample", 1)
        assert own.branch_id == 0
        assert its.branch_id == 1
        assert its.steps[0].id == own.steps[0].id
        assert (await call.do("pick", 1, token_id=1)).steps[0].index == 4
        again = await call.do("switch", 1)
        assert again.branch_id == 1
        assert (await call.do("sample")).branch_id == 1
        assert (await call.do("rewind", 0, count=4)).distribution.position == len(PROMPT)


async def test_branches_are_numbered_as_they_are_asked_for_and_may_be_meant_at_once(fp32_server):
    async with session(fp32_server, PROMPT) as (call, _):
        await call.send(
            action("fork"),
            action("pick", 1, token_id=7),
            action("fork", 1),
            action("drop", 1),
            action("fork", 2),
            action("rewind", 3, count=1),
        )
        answers = [await call.read() for _ in range(6)]
        assert [answer.branch_id for answer in answers] == [1, 1, 2, 1, 3, 3]
        assert [answer.action_index for answer in answers] == [1, 2, 3, 4, 5, 6]
        assert not answers[3].HasField("distribution")
        assert answers[4].distribution.position == len(PROMPT) + 1
        assert answers[5].distribution.position == len(PROMPT)


async def test_actions_on_several_branches_are_computed_in_the_same_steps(fp32_server, monkeypatch):
    sizes = []
    real = Model.forward

    def forward(self, chunks, *args, **kwargs):
        sizes.append(len(chunks))
        return real(self, chunks, *args, **kwargs)

    async with session(fp32_server, PROMPT) as (call, _):
        await call.send(*[action("fork") for _ in range(7)])
        for _ in range(7):
            await call.read()
        monkeypatch.setattr(Model, "forward", forward)
        await call.send(*[action("sample", branch, count=20) for branch in range(8)])
        for _ in range(8 * 20):
            await call.read()
    # Eight branches of twenty tokens: not 160 steps of one.
    assert sum(sizes) == 160
    assert len(sizes) < 40


async def test_the_end_of_requests_is_the_end_of_the_call(fp32_server):
    async with session(fp32_server, PROMPT) as (call, _):
        await call.send(action("sample"))
        await call.call.done_writing()
        assert len((await call.read()).steps) == 1
        last = await call.read()
        assert last.action_index == 2
        assert last.summary.usage.completion_tokens == 1
        assert await call.call.read() is grpc.aio.EOF
        assert await call.call.code() is grpc.StatusCode.OK


async def test_the_whole_context_can_be_used_and_no_more(fp32_server):
    async with session(fp32_server, [5] * 120, **SHOWN) as (call, _):
        answer = await call.do("force", tokens=[6] * 8)
        assert answer.distribution.position == 128
        assert len(answer.distribution.top_logprobs) == 8
        assert (await call.do("rewind", count=3)).distribution.position == 125


async def test_answers_that_are_too_large_for_a_message_come_in_several(fp32_server):
    async with session(fp32_server, PROMPT, full_vocabulary=True) as (call, _):
        await call.send(action("force", tokens=list(range(40))))
        answers = [await call.read()]
        while not answers[-1].HasField("distribution"):
            answers.append(await call.read())
        assert len(answers) > 1
        assert [step.id for answer in answers for step in answer.steps] == list(range(40))
        assert {answer.action_index for answer in answers} == {1}
        assert len(answers[-1].distribution.full_logprobs) == 50257


async def test_many_calls_at_once_keep_their_bits(artifacts):
    async with running_server(artifacts["int8"], slots=4) as running:

        async def run(seed):
            options = {"seed": seed, **SHOWN}
            whole = await generate(running, PROMPT, max_tokens=9, ignore_eos=True, **options)
            async with session(running, PROMPT, **options) as (call, _):
                await call.send(action("fork"), action("sample", 1, count=9))
                await call.read()
                drawn = [(await call.read()).steps[0] for _ in range(9)]
            assert [told(step) for step in drawn] == [told(step) for step in whole.steps]
            assert [step.id for step in drawn] == whole.ids

        await asyncio.gather(*(run(seed) for seed in range(8)))


async def test_it_is_said_that_it_is_offered(fp32_server):
    info = await fp32_server.stub.GetModel(pb.GetModelRequest())
    assert pb.CAPABILITY_INTERACT in info.capabilities
    assert (info.limits.max_branches, info.limits.max_pending_actions) == (64, 256)


async def test_a_start_that_is_sent_alone_is_enough(fp32_server):
    call = fp32_server.stub.Interact(iter([start_request(PROMPT)]))
    answers = [message async for message in call]
    assert [answer.HasField("summary") for answer in answers] == [False, True]
