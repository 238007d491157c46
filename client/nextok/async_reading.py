"""A running stream, read by an asyncio loop: what generations and scorings have in common.

Knows how messages become what a loop gets. Does not know what is in them, nor what is done when a
stream breaks. `reading` is this file's twin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Generic, Self

import grpc

from nextok.errors import Cancelled, Internal
from nextok.reading import Handout, T_co
from nextok.values import PromptInfo


class AsyncReading(ABC, Generic[T_co]):
    """An asynchronous iterator of what a running call sends.

    The call is cancelled when an `async with` around it is left, when `cancel` is called, when
    the task that reads it is cancelled, and when it is no longer referred to. After its end,
    nothing of that does anything.
    """

    _call: Any
    _transcript: Handout[T_co]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        """Returns what comes next.

        Raises:
            NextokError: The call failed; what came before is kept.
        """
        while (piece := self._transcript.take()) is None:
            if not await self._receive():
                raise StopAsyncIteration
        return piece

    async def start(self) -> PromptInfo:
        """Waits for the first message, if it has not come yet, and returns the prompt.

        Raises:
            NextokError: The call failed.
        """
        while self._transcript.prompt is None:
            if not await self._receive():
                raise Internal(grpc.StatusCode.INTERNAL, "the stream ended without a prompt")
        return self._transcript.prompt

    @property
    def prompt(self) -> PromptInfo:
        """What the prompt was read as; there from the first piece on, or from `start` on.

        Raises:
            RuntimeError: The first message has not come yet.
        """
        if self._transcript.prompt is None:
            raise RuntimeError("the prompt has not come yet: await start() first")
        return self._transcript.prompt

    @abstractmethod
    def cancel(self) -> None:
        """Cancels the call. Whoever still reads it gets `Cancelled`."""

    @abstractmethod
    async def _receive(self) -> bool:
        """Waits for a message; returns False at the end."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    def __del__(self) -> None:
        self._call.cancel()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._transcript!r}>"

    def _repr_html_(self) -> str:
        return self._transcript._repr_html_()


def cancelled_here() -> Cancelled:
    """The error for whoever reads a call that this side cancelled."""
    return Cancelled(grpc.StatusCode.CANCELLED, "cancelled by the client")
