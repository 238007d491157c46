"""A running generation, read by an asyncio loop.

Knows the call of grpc.aio: reading it, cancelling it, its errors. What was read is kept by
`Transcript`; what is asked for when a stream breaks is known by `Attempts`. `generation` is
this file's twin.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc

from nextok.async_reading import AsyncReading, cancelled_here
from nextok.attempts import Attempts
from nextok.choices import Choice
from nextok.errors import NextokError, Unavailable, error_from_rpc
from nextok.recording import Recording, record
from nextok.replay import Replay, compare, other_artifact
from nextok.transcript import Transcript
from nextok.v1 import text_generation_pb2 as pb
from nextok.values import Distribution, Finish, GenerateSummary, ScoredToken, Step


class AsyncGeneration(AsyncReading[Step]):
    """A running generation: an asynchronous iterator of steps, as they are computed.

    Where the connection or the server is lost, another call goes on with it; see `resume` of
    `AsyncClient.generate`.

    The call is cancelled when an `async with` around it is left, when `cancel` is called, when
    the task that reads it is cancelled, and when the generation is no longer referred to.
    After its end, nothing of that does anything.
    """

    def __init__(self, call: Any, attempts: Attempts) -> None:
        self._call = call
        self._attempts = attempts
        self._transcript: Transcript = Transcript(attempts.choices)
        self._cancelled = asyncio.Event()

    @property
    def prompt_logprobs(self) -> tuple[ScoredToken, ...]:
        """The prompt's log probabilities that have come so far, if they were asked for."""
        return tuple(self._transcript.prompt_logprobs)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that were read so far."""
        return tuple(self._transcript.steps)

    @property
    def finishes(self) -> tuple[Finish, ...]:
        """The ends of completions that have come so far, in the order in which they came."""
        return tuple(self._transcript.finishes.values())

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Each completion, by its number, with its steps that were read so far."""
        return self._transcript.choices

    @property
    def text(self) -> str:
        """The text of the steps that were read so far, without the prompt; see `finish`."""
        return self._transcript.text

    @property
    def finish(self) -> Finish | None:
        """Why the completion ended; None before that. Of several, the first: see `choices`."""
        return self._transcript.finish

    @property
    def summary(self) -> GenerateSummary | None:
        """The whole request, counted; None before the end."""
        return self._transcript.summary

    @property
    def resumed(self) -> int:
        """How many calls were made, after the first, to go on with a stream that broke."""
        return self._attempts.resumed

    def recording(self, choice: int = 0) -> Recording:
        """Returns what it takes to run this again, once it has ended; see `Client.replay`.

        Args:
            choice: Which of several completions. Its recording is that of a request for it alone.

        Raises:
            RuntimeError: It has not ended, or was not read to its end.
            ValueError: There is no such completion.
        """
        return record(self._attempts.request, self._transcript, choice)

    async def _distribution(self) -> Distribution:
        """Reads the whole stream, and returns what its first step was chosen from."""
        while await self._receive():
            pass
        self._transcript.take()
        return self._transcript.distribution()

    async def _replay(self, recording: Recording) -> Replay:
        """Reads the whole stream, unless another artifact computes it, and compares."""
        other = other_artifact(recording, await self.start())
        if other is not None:
            return other
        while await self._receive():
            pass
        return compare(recording, self._transcript)

    def cancel(self) -> None:
        """Cancels the call. Whoever still reads it gets `Cancelled`."""
        self._cancelled.set()
        self._call.cancel()

    async def _receive(self) -> bool:
        """Waits for a message, also through broken streams; returns False at the end."""
        while True:
            try:
                message = await self._call.read()
            except asyncio.CancelledError:
                # grpc.aio tells both in this way: that this task was cancelled, which has to
                # go on as it is, and that the call was, which is an error like others.
                task = asyncio.current_task()
                if self._cancelled.is_set() and not (task and task.cancelling()):
                    raise cancelled_here() from None
                raise
            except grpc.RpcError as error:
                failure = error_from_rpc(error)
                if self._transcript.call_ended and isinstance(failure, Unavailable):
                    # Nothing but the status was lost.
                    if not self._go_over():
                        return False
                    continue
                if not self._attempts.can_go_on(failure, self._transcript):
                    raise failure from error
                await self._go_on(failure)
            else:
                if message is not grpc.aio.EOF:
                    self._add(message)
                    return True
                if not self._go_over():
                    self._attempts.ended()
                    return False

    def _add(self, message: pb.GenerateResponse) -> None:
        try:
            self._transcript.add(message)
        except NextokError:
            self._call.cancel()
            raise

    def _go_over(self) -> bool:
        """Makes the call for the next completion of a stream that broke, if there is one left."""
        if not self._attempts.has_more(self._transcript):
            return False
        if self._cancelled.is_set():
            raise cancelled_here()
        self._call = self._attempts.following(self._transcript)
        return True

    async def _go_on(self, failure: NextokError) -> None:
        """Makes another call, after a pause that `cancel` ends."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._attempts.pause()):
                await self._cancelled.wait()
        if self._cancelled.is_set():
            raise cancelled_here() from failure
        self._call = self._attempts.again(self._transcript, failure)
