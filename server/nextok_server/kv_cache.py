"""Which rows of the cache are taken.

Knows: slot numbers. Does not know: what is computed in them, tensors.
"""

from __future__ import annotations

import heapq


class SlotPool:
    """Hands out cache rows, the lowest free one first.

    A decode step binds all rows up to the highest busy one, so low numbers keep it small.
    """

    def __init__(self, slots: int) -> None:
        self._free = list(range(slots))

    def __len__(self) -> int:
        return len(self._free)

    def take(self) -> int:
        """The lowest free slot; there has to be one."""
        return heapq.heappop(self._free)

    def give_back(self, slot: int) -> None:
        """Makes a taken slot free again."""
        assert slot not in self._free
        heapq.heappush(self._free, slot)
