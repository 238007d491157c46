"""Branches that keep to a form, through draws, rewinds and forks."""

from __future__ import annotations

import json

import grpc
import pytest
from support.interacting import session
from support.serving import generate, violation

from nextok.v1 import types_pb2 as types

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROMPT = [464, 3139, 286]
EOS = 50256
SCHEMA = {"type": "array", "items": {"enum": ["red", "green"]}, "minItems": 4, "maxItems": 4}
FORM = types.Constraint(json_schema=json.dumps(SCHEMA))


async def draw(call, count: int, branch: int = 0) -> list[types.Step]:
    answers = [await call.do("sample", branch)]
    answers += [await call.do("sample", branch) for _ in range(count - 1)]
    return [step for answer in answers for step in answer.steps]


def bits(steps) -> list[tuple[int, float, float]]:
    return [(step.id, step.logprob, step.allowed_mass) for step in steps]


async def test_a_branch_keeps_to_the_form_as_a_completion_does(fp32_server):
    whole = await generate(fp32_server, PROMPT, constraint=FORM, seed=5)
    length = len(whole.ids)
    async with session(fp32_server, PROMPT, constraint=FORM, seed=5) as (call, started):
        assert started.distribution.allowed_mass == whole.steps[0].allowed_mass
        steps = await draw(call, length)
        assert bits(steps) == bits(whole.steps)
        # Once the form is complete, nothing but the end of the text is left.
        (end,) = await draw(call, 1)
        assert end.id == EOS


async def test_rewinding_and_forking_take_the_place_in_the_form_along(fp32_server):
    async with session(fp32_server, PROMPT, constraint=FORM, seed=5) as (call, _):
        steps = await draw(call, 6)
        forked = await call.do("fork")
        assert forked.distribution.allowed_mass > 0
        await call.do("rewind", 0, count=4)
        again = await draw(call, 4)
        assert bits(again) == bits(steps[2:])
        other = await draw(call, 2, forked.branch_id)
        assert bits(other) == bits(await draw(call, 2))


async def test_a_given_token_that_the_form_does_not_allow_ends_the_call(fp32_server):
    async with session(fp32_server, PROMPT, constraint=FORM) as (call, _):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.do("force", tokens=[64])
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert violation(raised.value)[0] == "constraint.json_schema"
