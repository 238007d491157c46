"""Bounds how many lines of one sort the log gets a second.

Knows: time. Does not know: what is logged.
"""

from __future__ import annotations

import time
from collections.abc import Callable

LINES = 10


class LineLimit:
    """Lets the first lines of each second through and counts the others.

    Args:
        lines: That come through in a second.
        clock: Tells seconds.
    """

    def __init__(self, lines: int = LINES, clock: Callable[[], float] = time.monotonic) -> None:
        self._lines = lines
        self._clock = clock
        self._second = clock()
        self._let_through = self._left_out = 0

    def take(self) -> int | None:
        """Asks for one more line.

        Returns:
            How many were left out since the last one that came through; None if this one is.
        """
        now = self._clock()
        if now >= self._second + 1:
            self._second, self._let_through = now, 0
        if self._let_through == self._lines:
            self._left_out += 1
            return None
        self._let_through += 1
        left_out, self._left_out = self._left_out, 0
        return left_out
