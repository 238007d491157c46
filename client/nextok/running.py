"""The generations of one client that may still be running.

Knows that they can be cancelled, and nothing else of them.
"""

from __future__ import annotations

import threading
import weakref
from typing import Generic, Protocol, TypeVar


class _Cancellable(Protocol):
    def cancel(self) -> None: ...


G = TypeVar("G", bound=_Cancellable)


class Running(Generic[G]):
    """Remembers generations as long as somebody else does. Threads may share it."""

    def __init__(self) -> None:
        self._generations: weakref.WeakSet[G] = weakref.WeakSet()
        self._lock = threading.Lock()

    def add(self, generation: G) -> G:
        """Remembers a generation, and returns it."""
        with self._lock:
            self._generations.add(generation)
        return generation

    def cancel(self) -> None:
        """Cancels all that are still there."""
        with self._lock:
            generations = list(self._generations)
        for generation in generations:
            generation.cancel()
