"""Whether the engine moves.

Knows: how to tell a stuck engine from a stopped machine. Does not know: threads, what a step is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import structlog

_log = structlog.get_logger(__name__)
# Between two looks.
_TICK_SECONDS = 0.05


class Moving(Protocol):
    """What is watched.

    Attributes:
        steps: Grows with every step.
        is_due: Whether there is one to make.
    """

    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def is_due(self) -> bool: ...  # noqa: D102


class Watchdog:
    """Tells when the engine has work and finishes no step for too long, and when it moves again.

    Time is counted in looks, so that a process that was stopped, and its engine with it, is not
    taken for one whose engine is stuck.

    Args:
        engine: What is watched.
        limit: Seconds that a step may take.
        on_change: Told whether it is stuck.
        clock: Seconds.
    """

    def __init__(
        self,
        engine: Moving,
        limit: float,
        on_change: Callable[[bool], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._limit = limit
        self._on_change = on_change
        self._clock = clock
        self._steps = engine.steps
        self._looked_at = clock()
        self._still = 0.0
        self._stuck = False

    async def watch(self) -> None:
        """Looks again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self.look()

    def look(self) -> None:
        """Compares with the last look."""
        now, steps = self._clock(), self._engine.steps
        passed, self._looked_at = now - self._looked_at, now
        if steps != self._steps or not self._engine.is_due:
            self._steps, self._still = steps, 0.0
        else:
            self._still += min(passed, 2 * _TICK_SECONDS)
        if (self._still >= self._limit) != self._stuck:
            self._stuck = not self._stuck
            if self._stuck:
                _log.error("engine_stuck", seconds=self._limit)
            else:
                _log.warning("engine_moves_again")
            self._on_change(self._stuck)
