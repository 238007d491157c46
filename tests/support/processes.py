"""A server's process, seen from outside: its memory, and whether all of its places are free."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
from support.serving import generate_request


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no memory")


async def free_slots(stub: Any, slots: int, waiting: int = 0, *, tries: int = 20) -> int:
    """How many slots are free, of those that there should be; the server does nothing else.

    As many streams start as there are places, and all have to be let in. A stream without a slot
    gets its first step only after another one's last. A busy machine may be too slow to start
    them all in that time, so the best of some tries counts: no try finds a slot that is lost.
    """
    async with asyncio.timeout(300):
        found = 0
        for _ in range(tries):
            try:
                found = max(found, await _started_before_one_ended(stub, slots + waiting))
            except grpc.aio.AioRpcError as error:
                # The server has not heard yet of the last stream that was given up before.
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                await asyncio.sleep(0.1)
            if found >= slots:
                break
    return min(found, slots)


async def _started_before_one_ended(stub: Any, streams: int) -> int:
    events: list[str] = []

    async def read(number: int) -> None:
        request = generate_request([number + 1], max_tokens=120, ignore_eos=True)
        async for message in stub.Generate(request):
            if message.steps and message.steps[0].index == 0:
                events.append("first")
            if message.HasField("finish"):
                events.append("last")

    await asyncio.gather(*(read(number) for number in range(streams)))
    assert len(events) == 2 * streams
    return events.index("last")
