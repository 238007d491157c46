"""A running scoring, read by a plain loop.

Knows the sync call of grpc. What was read is kept by `ScoreTranscript`. `async_scoring` is this
file's twin.
"""

from __future__ import annotations

from typing import Any

import grpc

from nextok.errors import Unavailable, error_from_rpc
from nextok.reading import Reading
from nextok.score_transcript import ScoreTranscript
from nextok.scores import ScoreSummary, ScoreTotal
from nextok.values import ScoredToken


class Scoring(Reading[ScoredToken]):
    """A running scoring: an iterator of scored tokens, as they are computed.

    The call is cancelled when a `with` around it is left, when `cancel` is called, and when
    the scoring is no longer referred to. After its end, nothing of that does anything.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._transcript: ScoreTranscript = ScoreTranscript()

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

    def read_totals(self) -> tuple[ScoreTotal, ...]:
        """Reads the rest, and returns every text's total, in the order of the request.

        Raises:
            NextokError: The call failed.
        """
        for _ in self:
            pass
        return self.totals

    def cancel(self) -> None:
        """Cancels the call, from any thread. Whoever still reads it gets `Cancelled`."""
        self._call.cancel()

    def _receive(self) -> bool:
        try:
            message = next(self._call)
        except StopIteration:
            return False
        except grpc.RpcError as error:
            failure = error_from_rpc(error)
            if self._transcript.summary is not None and isinstance(failure, Unavailable):
                return False  # nothing but the status was lost
            raise failure from error
        self._transcript.add(message)
        return True
