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
    ACTION,
    ACTIONS,
    NOT_LISTED,
    RPCS,
    BadRequest,
    anything,
    bad_actions,
    bad_requests,
    bad_starts,
    find,
    good_action,
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
START = pb.InteractRequest(start={"prompt": {"text": "hello"}}).SerializeToString()
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


async def send(running: Running, rpc: str, *data: bytes) -> grpc.aio.AioRpcError | None:
    """Sends requests as they are; returns what they were refused with.

    On the wire one request looks the same, whether there could be more or not.
    """
    try:
        async for _ in running.channel.stream_stream(SERVICE + rpc)(iter(data), timeout=60):
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


async def send_later(
    running: Running, bad: list[BadRequest], calls: list[int]
) -> tuple[Found, int]:
    """Sends bad requests to calls that have begun, and counts what the model is asked then."""
    complaints, steps = [], 0
    for first in range(0, len(bad), AT_ONCE):
        some = bad[first : first + AT_ONCE]
        begun = await asyncio.gather(*(_begin(running, request) for request in some))
        before = len(calls)
        errors = await asyncio.gather(*map(_go_on, begun, some))
        steps += len(calls) - before
        complaints += map(complaint, some, errors)
    return Found(len(bad), [text for text in complaints if text]), steps


async def _begin(running: Running, bad: BadRequest) -> grpc.aio.StreamStreamCall:
    """A call with everything answered that comes before a bad request."""
    call = running.channel.stream_stream(SERVICE + bad.rpc)(timeout=60)
    for data in bad.before:
        await call.write(data)
        assert await call.read() is not grpc.aio.EOF
    return call


async def _go_on(call: grpc.aio.StreamStreamCall, bad: BadRequest) -> grpc.aio.AioRpcError | None:
    """Sends a bad request; returns what it was refused with, or None if it was answered."""
    try:
        await call.write(bad.data)
        await call.read()
    except grpc.aio.AioRpcError as error:
        return error
    finally:
        call.cancel()
    return None


async def made(running: Running, at_least: int) -> list[BadRequest]:
    """Every field with every bad value, as often as it takes, each time among other values."""
    table = rules(await running.stub.GetModel(pb.GetModelRequest()))
    dice = random.Random(SEED)
    bad: list[BadRequest] = []
    while len(bad) < at_least:
        most = 3000 if bad else 10 << 20
        bad += bad_requests(table, dice, most_bytes=most)
        bad += bad_starts(table, dice, most_bytes=most)
    return bad


async def made_later(running: Running, at_least: int) -> list[BadRequest]:
    """The same for calls that have begun."""
    model = await running.stub.GetModel(pb.GetModelRequest())
    table, dice = rules(model), random.Random(SEED)
    bad: list[BadRequest] = []
    while len(bad) < at_least:
        most = 3000 if bad else 10 << 20
        bad += bad_actions(table, dice, model.limits.max_branches, most_bytes=most)
    return bad


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(small):
    async with running_server(small["fp32"]) as running:
        yield running


async def test_bad_requests_are_refused_by_name_and_cost_no_step(server, calls, figures):
    bad = await made(server, 15_000 if figures.minutes else 1500)
    found = await send_all(server, bad)
    steps = len(calls)
    later, more_steps = await send_later(
        server, await made_later(server, 3000 if figures.minutes else 1), calls
    )
    complaints, steps = found.complaints + later.complaints, steps + more_steps
    figures.add(
        6,
        f"bad input: {found.sent} requests and {later.sent} in calls that had begun (seed {SEED}), "
        f"{len(complaints)} not refused by name, {steps} calls of the model (bounds: 0, 0)",
        requests=found.sent,
        later_requests=later.sent,
        complaints=len(complaints),
        model_calls=steps,
    )
    assert complaints == []
    assert steps == 0


async def test_the_check_fails_where_ids_are_not_looked_at(small, calls, monkeypatch):
    monkeypatch.setattr("nextok_server.requests.read_token_ids", lambda ids, *_: list(ids))
    # A server of its own: an id that is not in the vocabulary may end the engine.
    async with running_server(small["fp32"]) as running:
        bad = [one for one in await made(running, 1) if one.field == "logprobs.token_ids"]
        found = await send_all(running, bad)
    assert found.complaints
    assert calls


async def test_the_check_fails_where_actions_are_not_looked_at(small, calls, monkeypatch):
    monkeypatch.setattr("nextok_server.interact_requests._check_id", lambda token_id, *_: token_id)
    async with running_server(small["fp32"]) as running:
        bad = [one for one in await made_later(running, 1) if one.field == "pick.token_id"]
        found, _ = await send_later(running, bad, calls)
    assert found.complaints


async def test_what_stands_around_the_bad_values_is_fine(server, calls):
    dice = random.Random(SEED)
    table = rules(await server.stub.GetModel(pb.GetModelRequest()))
    for rpc, kind in list(RPCS.items()) * 8:
        data = good_request(kind.DESCRIPTOR, table, dice) + SHORT.get(rpc, b"")
        error = await send(server, rpc, data)
        assert error is None, error.details()
    for kind in [kind for kind in ACTIONS if kind != "start"] * 8:
        actions = [good_action(one, table, dice) for one in ("start", kind)]
        error = await send(server, "Interact", *actions)
        assert error is None, error.details()
    assert calls


async def test_every_field_of_a_request_has_a_rule(server):
    table = rules(await server.stub.GetModel(pb.GetModelRequest()))
    missing = [
        name(kind, path)
        for kind in (*(kind.DESCRIPTOR for kind in RPCS.values()), ACTION)
        for path in paths(kind)
        if path[-1].message_type is None and find(table, kind, path) is None
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
    requests = [bytes(request)]
    if method.client_streaming and draw([True, False]):
        requests.insert(0, START)
    error = await send(server, method.name, *requests)
    assert error is None or error.code() not in FAULTS, error.details()
