"""How fast this machine reads memory: the limit of a step that reads every weight once.

Each thread reads its own half of an array far larger than the caches, again and again. Several ways
of reading are tried, since a slow loop would understate the memory; the fastest counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

BYTES = 1 << 30
REPEATS = 5
# Each is one pass of NumPy's own vectorized loops, or of its BLAS, and lets other threads run.
WAYS: tuple[Callable[[np.ndarray], object], ...] = (
    lambda part: part.sum(),
    lambda part: part.max(),
    lambda part: np.bitwise_or.reduce(part.view(np.uint64)),
    lambda part: np.dot(part, part),
)


def measure(threads: int) -> float:
    """Gigabytes (1e9) a second, by the fastest way of reading."""
    data = np.ones(BYTES // 4, np.float32)
    parts = np.array_split(data, threads)
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for read in WAYS:
            for _ in range(REPEATS):
                start = time.perf_counter()
                list(pool.map(read, parts))
                best = min(best, time.perf_counter() - start)
    return BYTES / best / 1e9
