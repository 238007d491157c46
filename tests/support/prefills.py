"""What a server prefills, written down, and held where a test says so."""

from __future__ import annotations

import asyncio
import threading


class Prefills:
    """What prefill computes, (start, length) of each chunk, by call; it can be held."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[int, int]]] = []
        self._allowed = 1 << 30
        self._changed = threading.Condition()
        self._held = threading.Event()

    def enter(self, chunks) -> None:
        with self._changed:
            if len(self.calls) >= self._allowed:
                self._held.set()
            assert self._changed.wait_for(lambda: len(self.calls) < self._allowed, 30)
            self.calls.append([(chunk.start, len(chunk.tokens)) for chunk in chunks])

    def allow(self, calls: int) -> None:
        """Holds the engine once so many calls more were made."""
        with self._changed:
            self._allowed = len(self.calls) + calls
            if calls:
                # Here, not on the engine's thread: who asks next must not see what is over.
                self._held.clear()
            self._changed.notify()

    def release(self) -> None:
        self.allow(1 << 30)

    async def are_held(self) -> None:
        assert await asyncio.to_thread(self._held.wait, 30)
