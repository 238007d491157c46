"""nextok as its users meet it: a server process, gRPC, the client, 10 candidates a step."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.job import DRAFTS, REUSE, SAMPLING, Job, Outcome
from bench.worker import SETTINGS
from nextok import AsyncClient, Capability

CANDIDATES = 10


def prepare(checkpoint: Path, folder: Path, settings: SETTINGS) -> None:
    """Exports the artifact, with its certificate."""
    command = [sys.executable, "-m", "nextok_export", str(checkpoint), str(folder)]
    subprocess.run([*command, *settings["export"]], check=True)


def weights(folder: Path, settings: SETTINGS) -> Path:  # noqa: ARG001
    """The file whose bytes every step reads."""
    return folder / "model.onnx"


async def stream(client: AsyncClient, job: Job, options: Mapping[str, Any]) -> Outcome:
    """All prompts as requests of their own, read as they arrive."""
    arrivals: list[list[float]] = [[] for _ in job.prompts]
    tokens: list[list[int]] = [[] for _ in job.prompts]
    start = time.perf_counter()

    async def read(number: int) -> None:
        generation = client.generate(
            job.prompts[number],
            max_tokens=job.output_tokens,
            ignore_eos=True,
            top_logprobs=CANDIDATES,
            **options,
        )
        async for step in generation:
            arrivals[number].append(time.perf_counter() - start)
            tokens[number].append(step.id)

    await asyncio.gather(*(read(number) for number in range(len(job.prompts))))
    return Outcome(arrivals, tokens)


class Runner:
    """A server of its own, and a client in this process."""

    def __init__(self, folder: Path, settings: SETTINGS, threads: int) -> None:
        del settings
        command = [sys.executable, "-m", "nextok_server", str(folder), "--listen", "127.0.0.1:0"]
        self._server = subprocess.Popen(
            [*command, "--threads", str(threads), "--log-level", "error"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._server.stdout is not None
        ready = self._server.stdout.readline().split()
        if not ready:
            raise RuntimeError(f"nextok-server ended with exit code {self._server.wait()}")
        self._loop = asyncio.Runner()
        self._capabilities = self._loop.run(self._connect(ready[-1]))

    async def _connect(self, address: str) -> tuple[Capability, ...]:
        self._client = AsyncClient(address)
        return (await self._client.get_model()).capabilities

    @property
    def offers(self) -> frozenset[str]:
        """What the server says that it has."""
        offered = {Capability.DRAFTS: DRAFTS, Capability.PREFIX_REUSE: REUSE}
        return frozenset({SAMPLING} | {offered[c] for c in self._capabilities if c in offered})

    def run(self, job: Job) -> Outcome:
        """All prompts as requests of their own, read as they arrive."""
        return self._loop.run(stream(self._client, job, self._options(job)))

    def _options(self, job: Job) -> dict[str, Any]:
        """Drafts and reuse are switched off unless they are what is measured."""
        options: dict[str, Any] = {"temperature": job.temperature, "seed": 0}
        if Capability.DRAFTS in self._capabilities:
            options["drafts"] = job.drafts
        if Capability.PREFIX_REUSE in self._capabilities:
            options["bypass_prefix_reuse"] = not job.reuse
        return options

    def close(self) -> None:
        """Ends the client and the server."""
        self._loop.run(self._client.close())
        self._loop.close()
        self._server.terminate()
        self._server.wait()
