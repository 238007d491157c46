"""A running scoring, read by an asyncio loop.

Knows the call of grpc.aio. What was read is kept by `ScoreTranscript`. `scoring` is this file's
twin.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from nextok.async_reading import AsyncReading, cancelled_here
from nextok.errors import Unavailable, error_from_rpc
from nextok.score_transcript import ScoreTranscript
from nextok.scores import ScoreSummary, ScoreTotal
from nextok.values import ScoredToken


class AsyncScoring(AsyncReading[ScoredToken]):
    """A running scoring: an asynchronous iterator of scored tokens, as they are computed.

    The call is cancelled when an `async with` around it is left, when `cancel` is called, when
    the task that reads it is cancelled, and when the scoring is no longer referred to. After
    its end, nothing of that does anything.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._transcript: ScoreTranscript = ScoreTranscript()
        self._cancelled = False

    @property
    def tokens(self) -> tuple[ScoredToken, ...]:
        """The tokens that were read so far."""
        return tuple(self._transcript.tokens)

    @property
    def totals(self) -> tuple[ScoreTotal, ...]:
        """Totals of the texts that have come to their ends so far, in the order of the request."""
        return tuple(self._transcript.totals)

    @property
    def summary(self) -> ScoreSummary | None:
        """The whole request, counted; None before the end."""
        return self._transcript.summary

    async def read_totals(self) -> tuple[ScoreTotal, ...]:
        """Reads the rest, and returns every text's total, in the order of the request.

        Raises:
            NextokError: The call failed.
        """
        async for _ in self:
            pass
        return self.totals

    def cancel(self) -> None:
        """Cancels the call. Whoever still reads it gets `Cancelled`."""
        self._cancelled = True
        self._call.cancel()

    async def _receive(self) -> bool:
        try:
            message = await self._call.read()
        except asyncio.CancelledError:
            # grpc.aio tells both in this way: see AsyncGeneration.
            task = asyncio.current_task()
            if self._cancelled and not (task and task.cancelling()):
                raise cancelled_here() from None
            raise
        except grpc.RpcError as error:
            failure = error_from_rpc(error)
            if self._transcript.summary is not None and isinstance(failure, Unavailable):
                return False  # nothing but the status was lost
            raise failure from error
        if message is grpc.aio.EOF:
            return False
        self._transcript.add(message)
        return True
