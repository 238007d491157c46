"""Reliability 6: requests with one thing wrong are refused by name, and cost nothing."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass

import grpc
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bad_requests import (
    NOT_LISTED,
    RPCS,
    BadRequest,
    anything,
    bad_requests,
    find,
    good_request,
    name,
    paths,
    rules,
)
from support.serving import Running, running_server, violation

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.model import Model

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEED = 6
AT_ONCE = 32
SERVICE = "/nextok.v1.TextGenerationService/"
REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
METHODS = list(pb.DESCRIPTOR.services_by_name["TextGenerationService"].methods)
# Put behind a request, so that little is computed where it is a good one.
SHORT = {
    "Generate": pb.GenerateRequest(stop_conditions={"max_tokens": 4}).SerializeToString(),
    "Explore": pb.ExploreRequest(max_nodes=4).SerializeToString(),
}
FAULTS = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)


@pytest.fixture
def calls(monkeypatch):
    """Counts what the model is asked to compute."""
    made = []
    real = Model.forward

    def forward(self, *args, **kwargs):
        made.append(1)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Model, "forward", forward)
    return made


async def send(running: Running, rpc: str, data: bytes) -> grpc.aio.AioRpcError | None:
    """Sends a request as it is; returns what it was refused with.

    On the wire one request looks the same, whether there could be more or not.
    """
    try:
        async for _ in running.channel.unary_stream(SERVICE + rpc)(data, timeout=60):
            pass
    except grpc.aio.AioRpcError as error:
        return error
    return None


def complaint(bad: BadRequest, error: grpc.aio.AioRpcError | None) -> str:
    """What is wrong with the answer to a bad request; nothing if all is right."""
    said = "answered" if error is None else f"{error.code().name}: {error.details()}"
    said = f"{bad.rpc} with {bad.field} {bad.what}: {said}"
    if error is None or error.code() not in REFUSALS:
        return said
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        too_large = "larger than max" in (error.details() or "") and len(bad.data) > 1 << 20
        return "" if too_large else said
    named = re.sub(r"\[\d+\]", "", violation(error)[0])
    return "" if bad.field == named or bad.field.startswith(named + ".") else said


@dataclass(frozen=True)
class Found:
    """What became of bad requests: how many there were, and what was wrong with the answers."""

    sent: int
    complaints: list[str]


async def send_all(running: Running, bad: Iterable[BadRequest]) -> Found:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(request: BadRequest) -> str:
        async with gate:
            return complaint(request, await send(running, request.rpc, request.data))

    found = await asyncio.gather(*map(one, bad))
    return Found(len(found), [text for text in found if text])


async def made(running: Running, at_least: int) -> list[BadRequest]:
    """Every field with every bad value, as often as it takes, each time among other values."""
    table = rules(await running.stub.GetModel(pb.GetModelRequest()))
    dice = random.Random(SEED)
    bad = list(bad_requests(table, dice, most_bytes=10 << 20))
    while len(bad) < at_least:
        bad += bad_requests(table, dice, most_bytes=3000)
    return bad


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(artifacts):
    async with running_server(artifacts["fp32"]) as running:
        yield running


async def test_bad_requests_are_refused_by_name_and_cost_no_step(server, calls, figures):
    bad = await made(server, 15_000 if figures.minutes else 1500)
    found = await send_all(server, bad)
    text = f"bad input: {found.sent} requests (seed {SEED}), {len(found.complaints)} not refused "
    figures.add(
        6,
        text + f"by name, {len(calls)} calls of the model (bounds: 0, 0)",
        requests=found.sent,
        complaints=len(found.complaints),
        model_calls=len(calls),
    )
    assert found.complaints == []
    assert calls == []


async def test_the_check_fails_where_ids_are_not_looked_at(artifacts, calls, monkeypatch):
    monkeypatch.setattr("nextok_server.requests.read_token_ids", lambda ids, *_: list(ids))
    # A server of its own: an id that is not in the vocabulary may end the engine.
    async with running_server(artifacts["fp32"]) as running:
        bad = [one for one in await made(running, 1) if one.field == "logprobs.token_ids"]
        found = await send_all(running, bad)
    assert found.complaints
    assert calls


async def test_what_stands_around_the_bad_values_is_fine(server, calls):
    dice = random.Random(SEED)
    table = rules(await server.stub.GetModel(pb.GetModelRequest()))
    for rpc, kind in list(RPCS.items()) * 8:
        data = good_request(kind.DESCRIPTOR, table, dice) + SHORT.get(rpc, b"")
        error = await send(server, rpc, data)
        assert error is None, error.details()
    assert calls


async def test_every_field_of_a_request_has_a_rule(server):
    table = rules(await server.stub.GetModel(pb.GetModelRequest()))
    missing = [
        name(kind.DESCRIPTOR, path)
        for kind in RPCS.values()
        for path in paths(kind.DESCRIPTOR)
        if path[-1].message_type is None and find(table, kind.DESCRIPTOR, path) is None
    ]
    assert [path for path in missing if not path.startswith(NOT_LISTED)] == []


@pytest.mark.parametrize("method", METHODS, ids=[method.name for method in METHODS])
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_whatever_comes_is_never_a_fault(server, method, data):
    draw = lambda values: data.draw(st.sampled_from(values))  # noqa: E731
    request = bytearray(anything(method.input_type, draw))
    if request and draw([True, False]):
        place = data.draw(st.integers(0, len(request) - 1))
        request[place : place + draw([1, len(request)])] = data.draw(st.binary(max_size=4))
    error = await send(server, method.name, bytes(request))
    assert error is None or error.code() not in FAULTS, error.details()
