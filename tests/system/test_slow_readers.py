"""Reliability 4: clients that read nothing cost little memory, and hold up only themselves."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import statistics
import time
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from h2.settings import SettingCodes
from support.h2_client import H2Client, message
from support.processes import free_slots, resident
from support.serving import generate_request
from support.slow_moments import SlowMoments, Span, slow_moments
from support.traffic import Received

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import text_generation_pb2_grpc as pb_grpc

SLOW, OTHERS = 64, 4
SLOTS = SLOW + OTHERS
# Streams of each of the others at a time: some 900 gaps, so that p99 is not one of the longest.
STREAMS = 2
MOST_GROWTH = 16 << 20
MOST_RATIO = 1.1
# Looks at a server that does nothing any more, and seconds between them.
LOOKS, LOOK_SECONDS = 4, 0.15


def slow_request(number: int) -> pb.GenerateRequest:
    """What costs memory where it is not read: the whole vocabulary, mostly; candidates; little."""
    whole = {"full_vocabulary": True}
    asked = (whole, {"top_logprobs": 20}, whole, {}, whole)[number % 5]
    return generate_request([number + 1], max_tokens=120, ignore_eos=True, **asked)


@dataclass
class Found:
    """What slow readers did to a server and to its other streams.

    Attributes:
        growth: Bytes of memory, at most, while they were there.
        without: For each time, from when to when others waited for a token, by time.monotonic().
        beside: The same beside slow readers, next to it in time.
        differ: Streams of others that were not what they are alone.
        lost_slots: Slots that are not free after they left.
    """

    growth: int = 0
    without: list[list[Span]] = field(default_factory=list)
    beside: list[list[Span]] = field(default_factory=list)
    differ: int = 0
    lost_slots: int = 0

    def ratio(self, slow: SlowMoments) -> float:
        """How many times as long others wait beside slow readers, at p99: the median of pairs."""
        return statistics.median(
            slow.p99([beside]) / slow.p99([without])
            for without, beside in zip(self.without, self.beside, strict=True)
        )


class Watched:
    """A server's process, and what it tells of itself.

    Args:
        process: Its process.
        address: HOST:PORT.
        metrics: Port of its metrics.
    """

    def __init__(self, process: Any, address: str, metrics: int) -> None:
        self.pid = process.pid
        self.address = address
        self._url = f"http://127.0.0.1:{metrics}/metrics"

    async def metric(self, name: str) -> float:
        text = await asyncio.to_thread(self._read)
        return float(next(line for line in text.splitlines() if line.startswith(name)).split()[-1])

    async def rest(self, running: int) -> None:
        """Waits until so many sequences have a slot and none of them is computed any more."""
        async with asyncio.timeout(120):
            before, same = None, 0
            while same < LOOKS:
                await asyncio.sleep(LOOK_SECONDS)
                tokens = await self.metric("nextok:generation_tokens_total")
                now = (await self.metric("nextok:num_requests_running"), tokens)
                same = same + 1 if now == before and now[0] == running else 0
                before = now

    def _read(self) -> str:
        with urllib.request.urlopen(self._url, timeout=30) as reply:
            return reply.read().decode()


@contextlib.asynccontextmanager
async def slow_readers(server: Watched, left: int = SLOW) -> AsyncIterator[None]:
    """Clients that ask and do not read: with no room in HTTP/2's windows, with little, with some.

    Each has a connection of its own. They are there once so many of them have a slot, and the
    sequences of those have paused.
    """
    async with contextlib.AsyncExitStack() as stack:
        for number in range(SLOW):
            request = slow_request(number)
            window = (0, 300, 0, 65535)[number % 4]
            # More than the largest of these windows takes in, in 120 steps.
            request.logprobs.full_vocabulary |= window == 65535
            client = await stack.enter_async_context(H2Client(server.address))
            client.acknowledging = False
            client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
            client.call("Generate", message(request.SerializeToString()))
            await client.flush()
        await server.rest(left)
        yield


async def read_all(stub: Any, gaps: list[Span]) -> Received:
    """Reads a stream, and adds the gaps between its tokens."""
    received = Received()
    request = generate_request([3, 4], seed=4, max_tokens=120, ignore_eos=True)
    last = None
    async for told in stub.Generate(request):
        received.add(told)
        now = time.monotonic()
        if told.steps:
            # Steps that come together: the first is waited for, the others are not.
            if last is not None:
                gaps += [(last, now), *[(now, now)] * (len(told.steps) - 1)]
            last = now
    return received


async def others_read(stub: Any, alone: Received, found: Found) -> list[Span]:
    """Others read some streams each; returns the gaps between their tokens."""
    gaps: list[Span] = []

    async def one_after_another() -> None:
        for _ in range(STREAMS):
            found.differ += await read_all(stub, gaps) != alone

    await asyncio.gather(*(one_after_another() for _ in range(OTHERS)))
    return gaps


async def beside_slow_readers(
    servers: tuple[Watched, Watched],
    rounds: int = 1,
    *,
    pairs: int = 1,
    left: int = SLOW,
) -> Found:
    """Others read from a server that has slow readers, and from one that has none, in turns.

    So what is compared is a second apart, whatever the machine's speed. In the next round it is the
    other one that has them.
    """
    found = Found()
    async with contextlib.AsyncExitStack() as stack:
        stubs: list[Any] = []
        for server in servers:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            stubs.append(pb_grpc.TextGenerationServiceStub(channel))
        alone = await read_all(stubs[0], [])
        for stub in stubs[:rounds]:
            # All slots, connections and kinds of messages once: what grows later is unread.
            await asyncio.gather(*(_read_slow_request(stub, number) for number in range(SLOTS)))
        for number in range(rounds):
            slow = number % 2
            before = resident(servers[slow].pid)
            async with slow_readers(servers[slow], left):
                for _ in range(pairs):
                    found.without.append(await others_read(stubs[1 - slow], alone, found))
                    found.beside.append(await others_read(stubs[slow], alone, found))
                found.growth = max(found.growth, resident(servers[slow].pid) - before)
        for server in servers[:rounds]:
            found.lost_slots += SLOTS - await free_slots(server.address, SLOTS)
    return found


async def _read_slow_request(stub: Any, number: int) -> None:
    async for _ in stub.Generate(slow_request(number)):
        pass


@pytest.fixture
def serve(start, small):
    """Starts two servers with a place for everybody, that tell each step at once."""

    def run(fault: str | None) -> Watched:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            metrics = probe.getsockname()[1]
        flags = (
            *("--slots", str(SLOTS), "--metrics-listen", f"127.0.0.1:{metrics}"),
            *("--message-interval", "0", "--write-timeout", "600"),
        )
        process, address = start(*flags, artifact=small["int8"], fault=fault)
        return Watched(process, address, metrics)

    return lambda fault=None: (run(fault=fault), run(fault=fault))


async def test_clients_that_read_nothing_cost_little_and_hold_up_only_themselves(serve, figures):
    rounds, pairs = (4, 20) if figures.minutes else (1, 1)
    with slow_moments() as slow:
        found = await beside_slow_readers(serve(), rounds, pairs=pairs)
    ratio = found.ratio(slow)
    judged = "bound: 1.10" if figures.minutes else "judged in the long form"
    figures.add(
        4,
        f"{SLOW} slow readers: {found.growth / 2**20:.1f} MB of growth (bound: 16); of others, "
        f"{found.differ} streams differ, {found.lost_slots} slots lost (bounds: 0), gap between "
        f"tokens at p99 {ratio:.2f} times ({judged}; {found.ratio(SlowMoments()):.2f} with those "
        f"of {slow.seconds:.1f} s in which the machine itself was slow)",
        growth_bytes=found.growth,
        differ=found.differ,
        lost_slots=found.lost_slots,
        gap_without_seconds=round(slow.p99(found.without), 5),
        gap_beside_seconds=round(slow.p99(found.beside), 5),
        gap_ratio=round(ratio, 3),
    )
    assert found.growth < MOST_GROWTH
    assert found.differ == 0
    assert found.lost_slots == 0
    if figures.minutes:
        assert ratio <= MOST_RATIO


async def test_the_check_finds_a_server_without_a_bound_for_what_is_unread(serve):
    assert (await beside_slow_readers(serve("unbounded"), left=0)).growth > MOST_GROWTH


async def test_the_check_finds_an_engine_that_waits_for_slow_readers(serve):
    found = await beside_slow_readers(serve("waiting"))
    assert found.ratio(SlowMoments()) > MOST_RATIO


async def test_the_check_finds_slots_that_slow_readers_keep(serve):
    found = await beside_slow_readers(serve("lost_slot"))
    assert found.lost_slots > 0
