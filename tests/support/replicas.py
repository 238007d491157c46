"""Two servers of one artifact behind one client, one of which is ended under its streams."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nextok import AsyncClient, NextokError
from nextok.async_generation import AsyncGeneration

STREAMS = 16
# Streams that begin after the signal, beside those that run.
LATECOMERS = 4
READ_BEFORE = 3


def _options(number: int) -> dict[str, Any]:
    """What stream `number` asks for. Steps with a whole vocabulary do not fit into buffers."""
    return {
        "seed": number,
        "temperature": (number % 3) * 0.6,
        "top_p": 0.9 if number % 2 else 1.0,
        "ignore_eos": True,
        "max_tokens": 110,
        "full_vocabulary": True,
        "timeout": 120,
    }


def _prompt(number: int) -> str:
    return f"{number} once upon a time"


def _transcript(stream: AsyncGeneration) -> tuple[Any, ...]:
    """What has to be the same of a stream; a float32 is a float64 as it is."""
    steps = [(s.index, s.id, s.logprob, s.entropy, s.delta) for s in stream.steps]
    return (steps, stream.finish)


@dataclass
class Ended:
    """What became of streams whose server was ended.

    Attributes:
        streams: How many there were.
        lost: Those that did not come to their end, and why.
        different: Those that are not to the bit what they are alone.
        resumed: How often one was gone on with elsewhere.
        exits: Codes of the servers that were ended.
        seconds: How long each took to end.
    """

    streams: int = 0
    lost: list[str] = field(default_factory=list)
    different: list[int] = field(default_factory=list)
    resumed: int = 0
    exits: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Replicas:
    """Two servers; the older one is ended in every round, and a new one takes its place.

    Args:
        start: Starts a server; returns its process and its address.
        resume: As of `AsyncClient.generate`.
    """

    def __init__(self, start: Callable[[], Any], *, resume: int = 5) -> None:
        self.ended = Ended()
        self._start = start
        self._resume = resume
        self._alone: dict[int, Any] = {}
        self._servers = [start(), start()]

    async def rounds(self, count: int, signal: int) -> Ended:
        """Ends so many servers, one after the other."""
        await self._ask_alone(self._servers[0][1])
        for _ in range(count):
            next_one = asyncio.create_task(asyncio.to_thread(self._start))
            try:
                await self._round(signal)
            finally:
                self._servers = [self._servers[1], await next_one]
        return self.ended

    async def _ask_alone(self, address: str) -> None:
        async with AsyncClient(address) as client:
            for number in range(STREAMS + LATECOMERS):
                stream = client.generate(_prompt(number), **_options(number))
                async for _ in stream:
                    pass
                self._alone[number] = _transcript(stream)

    async def _round(self, signal: int) -> None:
        (victim, one), (_, other) = self._servers
        waiting = asyncio.Barrier(STREAMS + 1)
        signalled, gone = asyncio.Event(), asyncio.Event()
        async with AsyncClient(f"ipv4:{one},{other}") as client:

            async def read(number: int) -> None:
                if number >= STREAMS:
                    await signalled.wait()
                try:
                    stream = client.generate(
                        _prompt(number), resume=self._resume, **_options(number)
                    )
                    async for step in stream:
                        if number < STREAMS and step.index == READ_BEFORE:
                            await waiting.wait()
                            # One reads nothing more until its server may be gone.
                            await (gone if number == 0 else signalled).wait()
                except NextokError as error:
                    self.ended.lost.append(f"{number}: {error!r}")
                    return
                self.ended.resumed += stream.resumed
                if _transcript(stream) != self._alone[number]:
                    self.ended.different.append(number)

            tasks = [asyncio.create_task(read(n)) for n in range(STREAMS + LATECOMERS)]
            await waiting.wait()
            victim.send_signal(signal)
            began = time.monotonic()
            signalled.set()
            self.ended.exits.append(await asyncio.to_thread(_wait, victim))
            self.ended.seconds.append(time.monotonic() - began)
            gone.set()
            await asyncio.gather(*tasks)
            self.ended.streams += len(tasks)


def _wait(process: subprocess.Popen[str]) -> int:
    return process.wait(60)
