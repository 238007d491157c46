"""Calls with one request and many answers: when the request is read, and what if none comes."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from support.serving import generate_request, read_rest, running_server

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.methods import SERVICE

pytestmark = pytest.mark.asyncio(loop_scope="session")

METHODS = ("Generate", "Score", "Explore")


def without_request(channel, rpc):
    """A call whose request does not come."""
    return channel.stream_stream(f"/{SERVICE}/{rpc}")()


@pytest.mark.parametrize("rpc", METHODS)
async def test_a_call_that_ends_without_a_request_is_refused_as_that(artifacts, rpc):
    async with running_server(artifacts["fp32"]) as running:
        call = without_request(running.channel, rpc)
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "no request" in await call.details()


@pytest.mark.parametrize("rpc", METHODS)
async def test_a_full_server_refuses_before_a_request_has_come(artifacts, rpc):
    async with running_server(artifacts["fp32"], slots=1, max_queue=0) as running:
        runs = running.stub.Generate(generate_request("hello", ignore_eos=True))
        await runs.read()
        async with asyncio.timeout(30):
            call = without_request(running.channel, rpc)
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        runs.cancel()


async def test_a_call_whose_request_comes_late_is_served_as_any(artifacts):
    async with running_server(artifacts["fp32"]) as running:
        request = generate_request("hello", max_tokens=3, temperature=0.0)
        call = running.channel.stream_stream(
            f"/{SERVICE}/Generate",
            request_serializer=pb.GenerateRequest.SerializeToString,
            response_deserializer=pb.GenerateResponse.FromString,
        )()
        # Answered after the server has heard of the call before it.
        early = await read_rest(running.stub.Generate(request))
        await call.write(request)
        await call.done_writing()
        assert [step.id for step in await read_rest(call)] == [step.id for step in early]
