"""The calls of one client that may still be running.

Knows that they can be cancelled, and nothing else of them.
"""

from __future__ import annotations

import threading
import weakref
from typing import Protocol, TypeVar


class _Cancellable(Protocol):
    def cancel(self) -> None: ...


C = TypeVar("C", bound=_Cancellable)


class Running:
    """Remembers calls as long as somebody else does. Threads may share it."""

    def __init__(self) -> None:
        self._calls: weakref.WeakSet[_Cancellable] = weakref.WeakSet()
        self._lock = threading.Lock()

    def add(self, call: C) -> C:
        """Remembers a call, and returns it."""
        with self._lock:
            self._calls.add(call)
        return call

    def cancel(self) -> None:
        """Cancels all that are still there."""
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()
