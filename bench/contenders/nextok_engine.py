"""nextok's engine without its edges: no gRPC, no tokenizer, no event loop.

What the difference to `nextok_grpc` shows is the cost of the wire.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from bench.contenders import nextok_grpc
from bench.job import Job, Outcome
from bench.worker import SETTINGS
from nextok_server.artifact import load_artifact
from nextok_server.calls import OneCall, SeparateCalls
from nextok_server.engine import Engine
from nextok_server.events import Step
from nextok_server.kv_cache import KVCache
from nextok_server.model import Model
from nextok_server.sampling import SamplingParams
from nextok_server.scheduler import Scheduler
from nextok_server.sequence import Outputs, Request, Sequence, StopParams

SLOTS, CHUNK = 32, 64  # the server's defaults
NEVER_PAUSED = 1 << 30

prepare, weights = nextok_grpc.prepare, nextok_grpc.weights


class Runner:
    """The model as the server loads it."""

    offers: frozenset[str] = frozenset()

    def __init__(self, folder: Path, settings: SETTINGS, threads: int) -> None:
        del settings
        artifact = load_artifact(folder)
        self._calls = (SeparateCalls if artifact.kernels is None else OneCall)(CHUNK, SLOTS)
        self._model = Model(
            artifact,
            slots=SLOTS,
            chunk=CHUNK,
            tokens=self._calls.most_tokens,
            threads=threads,
            spinning=True,
        )

    def run(self, job: Job) -> Outcome:
        """All prompts as sequences, stepped by hand, told only when the engine wants to."""
        stop = StopParams(job.output_tokens)
        greedy, outputs = SamplingParams(temperature=0.0), Outputs(top=nextok_grpc.CANDIDATES)
        sequences = [
            Sequence(Request(tuple(prompt), greedy, stop, outputs), NEVER_PAUSED, tell_at=math.inf)
            for prompt in job.prompts
        ]
        arrivals: dict[int, list[float]] = {id(sequence): [] for sequence in sequences}
        start = time.monotonic()
        cache = KVCache(SLOTS, self._model.cache, 0)
        engine = Engine(self._model, Scheduler(cache, self._calls, CHUNK, reuse=False))
        for sequence in sequences:
            engine.scheduler.add(sequence)
        while engine.has_work:
            for sequence, produced in engine.step():
                steps = (event for event in produced if isinstance(event, Step))
                arrivals[id(sequence)] += [step.at - start for step in steps]
        tokens = [sequence.tokens[job.prompt_tokens :] for sequence in sequences]
        return Outcome([arrivals[id(sequence)] for sequence in sequences], tokens)

    def close(self) -> None:
        """Nothing to end."""
