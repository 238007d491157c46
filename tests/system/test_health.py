"""Reliability 12: health tells the truth, and soon."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.serving import generate_request, running_server

from nextok_server.methods import SERVICE
from nextok_server.model import Model

Status = health_pb2.HealthCheckResponse
WATCHDOG_SECONDS = 0.5
MOST_SECONDS = 0.1


@dataclass(frozen=True)
class Told:
    """Seconds until health said what was so.

    Attributes:
        stuck: After the watchdog's time was over, with work queued and no step.
        moving: After a step was made.
        draining: After the server was told to stop.
    """

    stuck: float
    moving: float
    draining: float

    @property
    def slowest(self) -> float:
        return max(self.stuck, self.moving, self.draining)


async def tell(artifact, monkeypatch) -> Told:
    """Wedges the engine, lets it go, and stops the server, while health is watched."""
    released = threading.Event()
    real = Model.forward

    def forward(self, *args, **kwargs):
        assert released.wait(60)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Model, "forward", forward)
    async with running_server(artifact, watchdog_seconds=WATCHDOG_SECONDS) as running:
        health = health_pb2_grpc.HealthStub(running.channel)
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        watch = health.Watch(request)
        assert (await watch.read()).status == Status.SERVING

        async def changed(to: int) -> float:
            async with asyncio.timeout(20):
                assert (await watch.read()).status == to
            at = time.monotonic()
            assert (await health.Check(request)).status == to
            return at

        began = time.monotonic()
        call = running.stub.Generate(generate_request("hello", max_tokens=3, ignore_eos=True))
        stuck = await changed(Status.NOT_SERVING) - began - WATCHDOG_SECONDS
        began = time.monotonic()
        released.set()
        moving = await changed(Status.SERVING) - began
        while await call.read() is not grpc.aio.EOF:
            pass
        began = time.monotonic()
        stopping = asyncio.create_task(running.app.stop(5.0, 0.5))
        draining = await changed(Status.NOT_SERVING) - began
        watch.cancel()
        await stopping
    return Told(stuck, moving, draining)


async def test_health_tells_what_is_so_within_a_tenth_of_a_second(artifacts, monkeypatch, figures):
    # A machine with other things to do can be late by itself; what is late by design is late
    # each time.
    tries = []
    for _ in range(3):
        tries.append(await tell(artifacts["fp32"], monkeypatch))
        if tries[-1].slowest < MOST_SECONDS:
            break
    best = min(tries, key=lambda told: told.slowest)
    figures.add(
        12,
        f"health: a wedged engine told {best.stuck * 1000:.0f} ms after the watchdog's time, its "
        f"recovery after {best.moving * 1000:.0f} ms, a stop after {best.draining * 1000:.0f} ms "
        f"(bound: 100; try {len(tries)} of 3)",
        stuck_seconds=round(best.stuck, 3),
        moving_seconds=round(best.moving, 3),
        draining_seconds=round(best.draining, 3),
        tries=len(tries),
    )
    assert best.slowest < MOST_SECONDS


async def test_the_check_finds_a_watchdog_that_looks_too_seldom(artifacts, monkeypatch):
    monkeypatch.setattr("nextok_server.watchdog._TICK_SECONDS", 0.35)
    assert (await tell(artifacts["fp32"], monkeypatch)).slowest > MOST_SECONDS
