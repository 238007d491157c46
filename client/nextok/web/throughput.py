"""How fast tokens come through here, lately.

Knows a clock. Does not know whose tokens they are.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

WINDOW_SECONDS: Final = 5.0
_PARTS: Final = 50  # of the window, so that what is kept does not grow with the load


class Throughput:
    """Counts tokens, and forgets them after the window.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: deque[tuple[int, int]] = deque()  # part of time, tokens in it

    def add(self, tokens: int = 1) -> None:
        """Counts tokens that came just now."""
        part = self._part()
        if self._counts and self._counts[-1][0] == part:
            tokens += self._counts.pop()[1]
        self._counts.append((part, tokens))
        self._forget(part)

    def rate(self) -> float:
        """Tokens a second, over the window."""
        self._forget(self._part())
        return sum(tokens for _, tokens in self._counts) / WINDOW_SECONDS

    def _part(self) -> int:
        return int(self._clock() / WINDOW_SECONDS * _PARTS)

    def _forget(self, now: int) -> None:
        while self._counts and self._counts[0][0] <= now - _PARTS:
            self._counts.popleft()
