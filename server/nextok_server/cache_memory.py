"""The memory of the cache: what each slot's keys and values are written to.

Knows: arrays, pages. Does not know: whose tokens stand where, ONNX Runtime.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence as Many
from typing import Any

import numpy as np


class CacheMemory:
    """One array (slots, heads, capacity, head_dim) for each layer's keys and values.

    The system provides the memory as it is written, in small pages: the places in use lie
    scattered, a few kB each, and with huge pages the first token of a sequence would claim all
    that its slot can ever need.

    Attributes:
        arrays: By name, `{layer}.key` and `{layer}.value`.
        token_bytes: Memory of one token of one slot, in all arrays.
        shelf_tokens: Places on the shelf, each for one token.
    """

    def __init__(
        self,
        *,
        layers: int,
        slots: int,
        heads: int,
        capacity: int,
        head_dim: int,
        dtype: np.dtype[Any],
        shelf_bytes: int = 0,
    ) -> None:
        shape = (slots, heads, capacity, head_dim)
        self.arrays: dict[str, np.ndarray[Any, Any]] = {}
        self._memories: list[mmap.mmap] = []
        for layer in range(layers):
            for part in ("key", "value"):
                memory = _untouched(math.prod(shape) * dtype.itemsize)
                self._memories.append(memory)
                self.arrays[f"{layer}.{part}"] = np.frombuffer(memory, dtype).reshape(shape)
        self._heads = heads
        # What one head has of one slot and of one token stands in one piece.
        self._stretch = capacity * head_dim * dtype.itemsize
        self._piece = head_dim * dtype.itemsize
        self.token_bytes = self._piece * heads * len(self.arrays)
        self.shelf_tokens = shelf_bytes // self.token_bytes
        aside = (self.shelf_tokens, len(self.arrays), heads, head_dim)
        # A system gives no memory of no bytes.
        memory = _untouched(max(1, self.shelf_tokens * self.token_bytes))
        size = math.prod(aside)
        self._shelf = np.frombuffer(memory, dtype, size if size else 0).reshape(aside)

    def copy(self, source: int, target: int, start: int, stop: int) -> None:
        """Copies the tokens at [start, stop) from one slot to the same places of another."""
        for array in self.arrays.values():
            array[target, :, start:stop] = array[source, :, start:stop]

    def put_aside(self, slot: int, token: int, place: int) -> None:
        """Copies a slot's token to a place on the shelf."""
        aside = self._shelf[place]
        for number, array in enumerate(self.arrays.values()):
            aside[number] = array[slot, :, token]

    def bring_back(self, places: Many[int], slot: int, start: int) -> None:
        """Copies tokens from places on the shelf to those from `start` on of a slot."""
        stop = start + len(places)
        # (parts, heads, tokens, head_dim)
        aside = self._shelf[list(places)].transpose(1, 2, 0, 3)
        for part, array in zip(aside, self.arrays.values(), strict=True):
            array[slot, :, start:stop] = part

    def discard(self, slot: int, start: int) -> None:
        """Gives the memory of a slot's tokens from `start` on back to the system.

        Whole pages only. What stood there is lost. Where the system has no way to do so, the
        memory stays.
        """
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        for head in range(slot * self._heads, (slot + 1) * self._heads):
            first = -(-(head * self._stretch + start * self._piece) // mmap.PAGESIZE)
            last = (head + 1) * self._stretch // mmap.PAGESIZE
            if last > first:
                span = first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE
                for memory in self._memories:
                    memory.madvise(mmap.MADV_DONTNEED, *span)


def _untouched(size: int) -> mmap.mmap:
    """Zeros that take no memory until they are written."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    # Not shared, as is Python's default: private pages are provided faster, and can be given back.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory
