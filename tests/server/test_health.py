"""Health says what is so, when it is so: loading, serving, stuck, dead, draining."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.serving import generate_request, read_rest, running_server

from nextok_server.health import Health, Hindrance
from nextok_server.methods import SERVICE
from nextok_server.model import Model
from nextok_server.watchdog import Watchdog

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
def stuck_engine(monkeypatch):
    """Steps stand still while it is cleared; `since` is when the last one began to."""
    moves = threading.Event()
    moves.set()
    real = Model.forward

    def forward(self, *args, **kwargs):
        moves.since = time.monotonic()
        assert moves.wait(30)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Model, "forward", forward)
    yield moves
    moves.set()


async def told(watch):
    """The next status that a watch tells, and when."""
    return (await watch.read()).status, time.monotonic()


async def test_a_stuck_engine_is_not_serving_until_it_moves_and_check_and_watch_say_so_at_once(
    artifacts, stuck_engine
):
    limit = 0.3
    async with running_server(artifacts["fp32"], watchdog_seconds=limit) as running:
        health = health_pb2_grpc.HealthStub(running.channel)
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        watch = health.Watch(request)
        assert (await told(watch))[0] == SERVING
        stuck_engine.clear()
        call = running.stub.Generate(generate_request("Once", max_tokens=3, ignore_eos=True))
        await call.read()
        status, at = await told(watch)
        assert status == NOT_SERVING
        delay = at - stuck_engine.since - limit
        assert (await health.Check(request)).status == NOT_SERVING
        released = time.monotonic()
        stuck_engine.set()
        status, at = await told(watch)
        assert status == SERVING
        assert (await health.Check(request)).status == SERVING
        print(f"health told a stuck engine {delay * 1e3:.0f} ms after the limit, and a moving one")
        print(f"{(at - released) * 1e3:.0f} ms after it moved")
        assert len(await read_rest(call)) == 3
        watch.cancel()


async def test_a_watch_goes_on_when_another_leaves_and_does_not_wait_for_a_slow_one(artifacts):
    async with running_server(artifacts["fp32"]) as running:
        health = health_pb2_grpc.HealthStub(running.channel)
        request = health_pb2.HealthCheckRequest(service="")
        stays, leaves, sleeps = (health.Watch(request) for _ in range(3))
        for watch in (stays, leaves):
            assert (await told(watch))[0] == SERVING
        leaves.cancel()
        await health.Check(request)
        stopping = asyncio.create_task(running.app.stop(5.0))
        assert (await told(stays))[0] == NOT_SERVING
        # A server that goes ends its watches.
        assert await stays.read() is grpc.aio.EOF
        sleeps.cancel()
        await stopping


async def test_unknown_names_are_not_found_and_may_be_watched(artifacts):
    async with running_server(artifacts["fp32"]) as running:
        health = health_pb2_grpc.HealthStub(running.channel)
        request = health_pb2.HealthCheckRequest(service="no.such.Service")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await health.Check(request)
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        watch = health.Watch(request)
        assert (await told(watch))[0] == UNKNOWN
        watch.cancel()


async def test_a_server_serves_once_nothing_hinders_it():
    health = Health()
    assert not health.is_serving
    health.hinder(Hindrance.ENGINE_STUCK)
    health.clear(Hindrance.LOADING)
    assert not health.is_serving
    health.clear(Hindrance.ENGINE_STUCK)
    assert health.is_serving


def watched(limit=1.0):
    engine, now, changes = SimpleNamespace(steps=0, is_due=True), [0.0], []
    watchdog = Watchdog(engine, limit, changes.append, clock=lambda: now[0])

    def look(seconds):
        now[0] += seconds
        watchdog.look()
        return changes

    return engine, look


def test_an_engine_without_work_is_not_stuck():
    engine, look = watched()
    engine.is_due = False
    for _ in range(100):
        assert look(0.05) == []


def test_an_engine_that_moves_is_not_stuck_however_long_it_runs():
    engine, look = watched()
    for _ in range(100):
        engine.steps += 1
        look(0.05)
        assert look(0.05) == []


def test_a_stuck_engine_is_told_once_and_again_when_it_moves():
    engine, look = watched()
    for _ in range(40):
        look(0.05)
    assert look(0.05) == [True]
    engine.steps += 1
    assert look(0.05) == [True, False]


def test_a_machine_that_stood_still_is_not_taken_for_a_stuck_engine():
    engine, look = watched()
    assert look(1000.0) == []
    engine.steps += 1
    assert look(0.05) == []
