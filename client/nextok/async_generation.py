"""A running generation, read by an asyncio loop.

Knows the call of grpc.aio: reading it, cancelling it, its errors. What was read is kept by
`Transcript`. `generation` is this file's twin.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

import grpc

from nextok.errors import Cancelled, Internal, error_from_rpc
from nextok.transcript import Transcript
from nextok.values import Distribution, Finish, GenerateSummary, PromptInfo, ScoredToken, Step


class AsyncGeneration:
    """A running generation: an asynchronous iterator of steps, as they are computed.

    The call is cancelled when an `async with` around it is left, when `cancel` is called, when
    the task that reads it is cancelled, and when the generation is no longer referred to.
    After its end, nothing of that does anything.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._transcript = Transcript()
        self._cancelled_here = False

    def __aiter__(self) -> AsyncGeneration:
        return self

    async def __anext__(self) -> Step:
        """Returns the next step.

        Raises:
            NextokError: The call failed; the steps before stay in `steps`.
        """
        while (step := self._transcript.take()) is None:
            if not await self._receive():
                raise StopAsyncIteration
        return step

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
        """What the prompt was read as; there from the first step on, or from `start` on.

        Raises:
            RuntimeError: The first message has not come yet.
        """
        if self._transcript.prompt is None:
            raise RuntimeError("the prompt has not come yet: await generation.start()")
        return self._transcript.prompt

    @property
    def prompt_logprobs(self) -> tuple[ScoredToken, ...]:
        """The prompt's log probabilities that have come so far, if they were asked for."""
        return tuple(self._transcript.prompt_logprobs)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that were read so far."""
        return tuple(self._transcript.steps)

    @property
    def text(self) -> str:
        """The text of the steps that were read so far, without the prompt."""
        return self._transcript.text

    @property
    def finish(self) -> Finish | None:
        """Why the completion ended; None before that."""
        return self._transcript.finish

    @property
    def summary(self) -> GenerateSummary | None:
        """The whole request, counted; None before the end."""
        return self._transcript.summary

    async def _distribution(self) -> Distribution:
        """Reads the whole stream, and returns what its first step was chosen from."""
        while await self._receive():
            pass
        self._transcript.take()
        return self._transcript.distribution()

    def cancel(self) -> None:
        """Cancels the call. Whoever still reads it gets `Cancelled`."""
        self._cancelled_here = True
        self._call.cancel()

    async def _receive(self) -> bool:
        """Waits for a message; returns False at the end."""
        try:
            message = await self._call.read()
        except asyncio.CancelledError:
            # grpc.aio tells both in this way: that this task was cancelled, which has to go
            # on as it is, and that the call was, which is an error like others.
            task = asyncio.current_task()
            if self._cancelled_here and not (task and task.cancelling()):
                raise Cancelled(grpc.StatusCode.CANCELLED, "cancelled by the client") from None
            raise
        except grpc.RpcError as error:
            raise error_from_rpc(error) from error
        if message is grpc.aio.EOF:
            return False
        self._transcript.add(message)
        return True

    async def __aenter__(self) -> AsyncGeneration:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    def __del__(self) -> None:
        self.cancel()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._transcript!r}>"

    def _repr_html_(self) -> str:
        return self._transcript._repr_html_()
