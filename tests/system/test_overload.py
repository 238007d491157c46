"""Reliability 7: ten times what it can do does not keep a server from doing it."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from support.checkpoints import make_checkpoint
from support.exports import Exports
from support.once import once
from support.serving import generate_request

from nextok.v1 import text_generation_pb2_grpc as pb_grpc

SLOTS, QUEUE = 4, 8
FLAGS = ("--slots", str(SLOTS), "--max-queue", str(QUEUE), "--give-way")
TOKENS = 100
LEAST_GOODPUT = 0.95
MOST_SECONDS = 0.01
SEED = 7


@dataclass
class Load:
    """What came of requests that were sent at a rate.

    Attributes:
        tokens: Of streams that came to their end, a second.
        refusals: How long each took that was refused, in seconds.
        wrong: What was neither whole nor refused as it should be.
    """

    tokens: float = 0.0
    refusals: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Loader:
    """Sends requests; each is for the same work."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self._dice = random.Random(SEED)

    async def one(self, load: Load) -> int:
        """Sends one request; returns its tokens."""
        prompt = [self._dice.randrange(1000) for _ in range(4)]
        began = time.perf_counter()
        tokens = 0
        try:
            request = generate_request(prompt, max_tokens=TOKENS, ignore_eos=True)
            async for message in self._stub.Generate(request):
                tokens += len(message.steps)
        except grpc.aio.AioRpcError as error:
            load.refusals.append(time.perf_counter() - began)
            if tokens or not _says_when(error):
                load.wrong.append(f"{error.code()} after {tokens} tokens: {error.details()}")
            return 0
        if tokens != TOKENS:
            load.wrong.append(f"{tokens} tokens")
        return tokens

    async def all_it_can(self, seconds: float) -> Load:
        """As many streams as it computes, and one more for each slot, one after the other."""
        load, done, end = Load(), [], time.monotonic() + seconds

        async def go_on() -> None:
            while time.monotonic() < end:
                done.append(await self.one(load))

        began = time.monotonic()
        await asyncio.gather(*(go_on() for _ in range(2 * SLOTS)))
        load.tokens = sum(done) / (time.monotonic() - began)
        return load

    async def at_rate(self, rate: float, seconds: float) -> Load:
        """Requests that come at random times, so many a second, whether it keeps up or not."""
        load, began = Load(), time.monotonic()
        due, ended, tasks = began, [], []

        async def one() -> None:
            tokens = await self.one(load)
            ended.append((time.monotonic(), tokens))

        while due < began + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.append(asyncio.create_task(one()))
            due += self._dice.expovariate(rate)
        await asyncio.gather(*tasks)
        load.tokens = sum(n for _, n in ended) / (max(at for at, _ in ended) - began)
        return load


def _says_when(error: grpc.aio.AioRpcError) -> bool:
    """Whether a refusal is one, and says when to come back."""
    status = status_pb2.Status()
    status.ParseFromString(
        dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    )
    info = error_details_pb2.RetryInfo()
    full = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return full and any(detail.Unpack(info) for detail in status.details)


@dataclass
class Overload:
    """Pairs of all that it can do and ten times that.

    Attributes:
        ratios: Of goodput, a pair each.
        slowest: 99th percentiles of refusals, in seconds.
        refused: How many were.
        wrong: As of Load.
        goodput: By the factor of overload, as a part of what it can do.
    """

    ratios: list[float] = field(default_factory=list)
    slowest: list[float] = field(default_factory=list)
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    goodput: dict[int, float] = field(default_factory=dict)


async def overload(address: str, factors: tuple[int, ...], pairs: int, seconds: float) -> Overload:
    found = Overload()
    async with grpc.aio.insecure_channel(address) as channel:
        loader = Loader(pb_grpc.TextGenerationServiceStub(channel))
        await loader.all_it_can(seconds / 2)
        ratios: dict[int, list[float]] = {factor: [] for factor in factors}
        for _ in range(pairs):
            for factor in factors:
                able = await loader.all_it_can(seconds)
                load = await loader.at_rate(factor * able.tokens / TOKENS, seconds)
                ratios[factor].append(load.tokens / able.tokens)
                found.wrong += able.wrong + load.wrong
                if factor == 10:
                    found.refused += len(load.refusals)
                    found.slowest.append(statistics.quantiles(load.refusals, n=100)[98])
        found.ratios = ratios[10]
        found.goodput = {factor: statistics.median(these) for factor, these in ratios.items()}
    return found


@pytest.fixture
def artifact(artifacts, figures, tmp_path_factory):
    """In the long form of GPT-2's own size: beside its steps, a refusal costs little."""
    if not figures.minutes:
        return artifacts["fp32"]
    checkpoint = once(
        tmp_path_factory,
        "full-size",
        lambda folder: make_checkpoint(folder, layers=12, width=768, heads=12, context=1024),
    )
    return Exports(tmp_path_factory, checkpoint)["int8"]


async def test_goodput_under_ten_times_the_load_is_that_under_all_it_can_do(
    start, artifact, figures
):
    _, address = start(*FLAGS, artifact=artifact)
    factors = (1, 2, 5, 10) if figures.minutes else (10,)
    found = await overload(
        address, factors, 8 if figures.minutes else 2, 5.0 if figures.minutes else 2.5
    )
    goodput, slowest = statistics.median(found.ratios), statistics.median(found.slowest)
    steps = ", ".join(f"{share:.2f} at {factor}x" for factor, share in found.goodput.items())
    figures.add(
        7,
        f"overload: goodput {steps} of all it can do (bound: 0.95 at 10x), {found.refused} "
        f"refusals, p99 {slowest * 1000:.1f} ms (bound: 10); bounds of time in the long form",
        goodput=round(goodput, 3),
        refusals=found.refused,
        refusal_p99_seconds=round(slowest, 4),
    )
    assert found.wrong == []
    assert found.refused > 0
    if figures.minutes:
        assert goodput >= LEAST_GOODPUT
        assert slowest < MOST_SECONDS


async def test_the_check_finds_refusals_that_take_their_time(start, artifacts):
    _, address = start(*FLAGS, artifact=artifacts["fp32"], fault="slow_refusals")
    found = await overload(address, (10,), 1, 1.5)
    assert statistics.median(found.slowest) > MOST_SECONDS
