"""Reliability 3, second part: thousands of streams that are given up leave nothing behind."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from support.processes import free_slots, resident
from support.serving import generate_request

from nextok.v1 import text_generation_pb2_grpc as pb_grpc

SLOTS, QUEUE = 16, 80
AT_ONCE = 48
# Of the short form and of the long one, which does it three times. The first streams make threads'
# arenas, gRPC's pools, and the caches of the interpreter.
STREAMS, WARM_UP, TIMES = (2_000, 20_000), (1_500, 6_000), (1, 3)
# Of so many streams. gRPC itself keeps some 30 bytes of each that was given up while it wrote
# (github.com/grpc/grpc/issues/43360), so that more streams grow more.
MOST_GROWTH = 4 << 20
SEED = 3


@dataclass(frozen=True)
class Left:
    """What cancelled streams left behind: bytes each time, and slots that are not free."""

    growth: list[int]
    lost_slots: int


async def give_up(stub: Any, streams: int, dice: random.Random) -> None:
    """Starts streams and cancels them: in the queue, in their prompt, while they decode."""
    started = itertools.count()

    async def one_after_another() -> None:
        while next(started) < streams:
            prompt = [dice.randrange(1000) for _ in range(dice.choice([1, 10, 70]))]
            call = stub.Generate(generate_request(prompt, ignore_eos=True))
            for _ in range(dice.choice([0, 1, 1, 2])):
                await call.read()
            call.cancel()

    await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))


async def leave_behind(
    process: Any, address: str, streams: int, warm_up: int, *, times: int = 1
) -> Left:
    dice = random.Random(SEED)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = pb_grpc.TextGenerationServiceStub(channel)
        await give_up(stub, warm_up, dice)
        await free_slots(address, SLOTS, QUEUE)
        sizes = [resident(process.pid)]
        for _ in range(times):
            await give_up(stub, streams, dice)
            free = await free_slots(address, SLOTS, QUEUE)
            sizes.append(resident(process.pid))
        growth = [after - before for before, after in itertools.pairwise(sizes)]
        return Left(growth, SLOTS - free)


@pytest.fixture
def flags():
    # Each step told at once: which of two streams was first is seen by their messages.
    return ("--slots", str(SLOTS), "--max-queue", str(QUEUE), "--message-interval", "0")


async def test_cancelled_streams_leave_no_memory_and_all_slots(start, small, figures, flags):
    process, address = start(*flags, artifact=small["fp32"])
    is_long = bool(figures.minutes)
    streams, warm_up, times = STREAMS[is_long], WARM_UP[is_long], TIMES[is_long]
    left = await leave_behind(process, address, streams, warm_up, times=times)
    growth = ", ".join(f"{some / 2**20:.2f}" for some in left.growth)
    figures.add(
        3,
        f"{times} times {streams} cancelled streams: {growth} MB of growth (bound: 4 each), "
        f"{left.lost_slots} slots lost (bound: 0)",
        streams=streams,
        growth_bytes=left.growth,
        lost_slots=left.lost_slots,
    )
    assert max(left.growth) < MOST_GROWTH
    assert left.lost_slots == 0


async def test_the_check_finds_memory_that_is_kept(start, small, flags):
    process, address = start(*flags, artifact=small["fp32"], fault="leak")
    assert (await leave_behind(process, address, 200, 50)).growth[0] > MOST_GROWTH


async def test_the_check_finds_slots_that_are_lost(start, small, flags):
    process, address = start(*flags, artifact=small["fp32"], fault="lost_slot")
    assert (await leave_behind(process, address, 100, 0)).lost_slots > 0
