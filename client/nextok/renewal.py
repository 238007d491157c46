"""A channel that is made anew when the files that its TLS comes from change.

Knows which calls run over which channel, of either client. Does not know what TLS is made of, nor
what is called. gRPC reads certificates once a channel.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from nextok.security import TLS


def open_channel(tls: TLS | bool, open_: Callable[[TLS | bool], Any]) -> Any:
    """Opens a channel; where TLS comes from files, one that stays as they are.

    Args:
        tls: As the client was given it.
        open_: Makes a channel, sync or asyncio.
    """
    if isinstance(tls, TLS) and tls.is_from_files:
        return RenewedChannel(tls, open_)
    return open_(tls)


class RenewedChannel:
    """Stands in for a channel. Calls that run when it is renewed end on the one they began on.

    Files that cannot be used leave everything as it was; they are looked at with every call.
    """

    def __init__(self, tls: TLS, open_: Callable[[TLS | bool], Any]) -> None:
        self._tls = tls
        self._open = open_
        self._current = open_(tls)
        self._running: Counter[Any] = Counter()
        self._closing: set[asyncio.Future[None]] = set()
        self._lock = threading.Lock()

    def __getattr__(self, shape: str) -> Callable[..., Any]:
        """unary_unary and its like."""

        def make(*args: Any, **kwargs: Any) -> Callable[..., Any]:
            def call(*request: Any, **options: Any) -> Any:
                channel = self._take()
                try:
                    made = getattr(channel, shape)(*args, **kwargs)(*request, **options)
                except BaseException:
                    self._leave(channel)
                    raise
                if hasattr(made, "add_done_callback"):
                    made.add_done_callback(lambda _: self._leave(channel))
                else:  # what a sync unary call gives is the answer itself
                    self._leave(channel)
                return made

            return call

        return make

    def close(self) -> Any:
        """Closes all of them; gives something to await where they are asyncio's."""
        with self._lock:
            channels = {*self._running, self._current}
        closing = [channel.close() for channel in channels]
        return asyncio.gather(*closing) if inspect.isawaitable(closing[0]) else None

    def _take(self) -> Any:
        """The channel for a new call."""
        with self._lock:
            before, renewed = self._current, self._tls.renewed()
            if renewed is not None:
                self._tls, self._current = renewed, self._open(renewed)
            self._running[self._current] += 1
            channel = self._current
            idle = before is not channel and not self._running[before]
        if idle:
            self._retire(before)
        return channel

    def _leave(self, channel: Any) -> None:
        """Says that a call is over."""
        with self._lock:
            self._running[channel] -= 1
            over = not self._running[channel] and channel is not self._current
        if over:
            self._retire(channel)

    def _retire(self, channel: Any) -> None:
        with self._lock:
            self._running.pop(channel, None)
        if inspect.iscoroutinefunction(channel.close):
            task = asyncio.ensure_future(channel.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        else:
            # gRPC tells that a call is over on the thread that may still have to hand out the
            # call's last message, and closing waits for that.
            threading.Thread(target=channel.close, name="nextok-close", daemon=True).start()
