"""A running stream, read by a plain loop: what generations and scorings have in common.

Knows how messages become what a loop gets. Does not know what is in them, nor what is done when a
stream breaks. `async_reading` is this file's twin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import grpc

from nextok.errors import Internal
from nextok.values import PromptInfo

T_co = TypeVar("T_co", covariant=True)


class Handout(Protocol[T_co]):
    """What a stream has sent so far, handed out piece by piece."""

    @property
    def prompt(self) -> PromptInfo | None:
        """What the prompt was read as, once that has come."""

    def take(self) -> T_co | None:
        """Hands out the next piece that has arrived, if one has."""

    def _repr_html_(self) -> str: ...


class Reading(ABC, Generic[T_co]):
    """An iterator of what a running call sends.

    The call is cancelled when a `with` around it is left, when `cancel` is called, and when
    it is no longer referred to. After its end, nothing of that does anything.
    """

    _call: Any
    _transcript: Handout[T_co]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T_co:
        """Returns what comes next.

        Raises:
            NextokError: The call failed; what came before is kept.
        """
        while (piece := self._transcript.take()) is None:
            if not self._receive():
                raise StopIteration
        return piece

    def start(self) -> PromptInfo:
        """Waits for the first message, if it has not come yet, and returns the prompt.

        Raises:
            NextokError: The call failed.
        """
        while self._transcript.prompt is None:
            if not self._receive():
                raise Internal(grpc.StatusCode.INTERNAL, "the stream ended without a prompt")
        return self._transcript.prompt

    @property
    def prompt(self) -> PromptInfo:
        """What the prompt was read as. Waits for the first message; see `start`."""
        return self.start()

    @abstractmethod
    def cancel(self) -> None:
        """Cancels the call, from any thread. Whoever still reads it gets `Cancelled`."""

    @abstractmethod
    def _receive(self) -> bool:
        """Waits for a message; returns False at the end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    def __del__(self) -> None:
        # Without a lock, which whoever is interrupted by this may hold.
        self._call.cancel()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._transcript!r}>"

    def _repr_html_(self) -> str:
        return self._transcript._repr_html_()
