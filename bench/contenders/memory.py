"""Reads its weights from memory and does nothing else: the limit of a step that reads them once.

Each thread reads its own half of an array far larger than the caches, again and again. Several ways
of reading are tried at first, since a slow loop would understate the memory; the fastest is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bench.job import Job, Outcome

BYTES = 1 << 28
TRIES = 10
NO_TOKEN = -1
Way = Callable[[np.ndarray], object]
# Each is one pass of NumPy's own vectorized loops, or of its BLAS, and lets other threads run.
WAYS: tuple[Way, ...] = (
    lambda part: part.sum(),
    lambda part: part.max(),
    lambda part: np.bitwise_or.reduce(part.view(np.uint64)),
    lambda part: np.dot(part, part),
)


def prepare(checkpoint: Path, folder: Path, settings: Mapping[str, Any]) -> None:  # noqa: ARG001
    """Writes something to read."""
    np.ones(BYTES // 4, np.float32).tofile(weights(folder, settings))


def weights(folder: Path, settings: Mapping[str, Any]) -> Path:  # noqa: ARG001
    """The file that is read."""
    return folder / "weights.bin"


class Runner:
    """Reads."""

    offers = frozenset[str]()

    def __init__(self, folder: Path, settings: Mapping[str, Any], threads: int) -> None:
        data = np.fromfile(weights(folder, settings), np.float32)
        self._parts = np.array_split(data, threads)
        self._pool = ThreadPoolExecutor(threads)
        self._way = min(WAYS, key=self._least_seconds)

    def run(self, job: Job) -> Outcome:
        """Reads everything once in place of each token."""
        start = time.perf_counter()
        times = []
        for _ in range(job.output_tokens):
            self._read(self._way)
            times.append(time.perf_counter() - start)
        return Outcome.in_step(times, [[NO_TOKEN] * job.output_tokens for _ in job.prompts])

    def close(self) -> None:
        """Ends its threads."""
        self._pool.shutdown()

    def _read(self, way: Way) -> None:
        list(self._pool.map(way, self._parts))

    def _least_seconds(self, way: Way) -> float:
        seconds = []
        for _ in range(TRIES):
            start = time.perf_counter()
            self._read(way)
            seconds.append(time.perf_counter() - start)
        return min(seconds)
