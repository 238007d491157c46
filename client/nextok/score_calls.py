"""The call that scores, its options spelled once for both clients.

Knows the options of Score and how they become a request. Does not know how a call is made, nor
whether its result has to be awaited.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from nextok.requests import logprob_options, score_request
from nextok.v1 import text_generation_pb2 as pb

S = TypeVar("S")  # the scoring that the client returns, sync or asyncio


class ScoreCalls(ABC, Generic[S]):
    """Gives a client its `score`."""

    @abstractmethod
    def _start_scoring(self, request: pb.ScoreRequest, *, timeout: float | None) -> S:
        """Starts the call."""

    def score(
        self,
        prompt: str | Sequence[int],
        *,
        continuations: Sequence[str | Sequence[int]] = (),
        top_logprobs: int | None = None,
        logprob_token_ids: Sequence[int] = (),
        full_vocabulary: bool = False,
        stride: int | None = None,
        bypass_prefix_reuse: bool = False,
        priority: int | None = None,
        timeout: float | None = None,
    ) -> S:
        """Tells how likely the tokens of a text are; each comes as it is computed.

        With `continuations`, how likely each of them is after the prompt, whose own tokens are
        not scored then. Ranges are the server's to check. Errors are raised while the result
        is read.

        Args:
            prompt: Text, or token ids that are taken as they are; may be longer than the context.
            continuations: Texts or token ids, each scored by itself. A text is tokenized by
                itself: mostly it begins with a space, and the prompt does not end with one.
            top_logprobs: How many of the most likely tokens each token lists. Default 0.
            logprob_token_ids: Tokens that each token reports, whatever their rank.
            full_vocabulary: Whether each token has the log probability of every token.
            stride: How many tokens a window scores where a text is longer than the context.
                The shorter, the more context tokens see and the more is computed. Default: half
                the context.
            bypass_prefix_reuse: Computes everything, whatever the server has kept of it.
            priority: Requests with a higher one are started first. Default 0.
            timeout: Seconds that the whole call may take. Default: no limit.

        Returns:
            The scoring, an iterator of scored tokens, with the totals of each text.

        Raises:
            TypeError: An argument is of a type that no request can hold.
            ValueError: An argument does not fit a request: an id that is no uint32, a text
                with a lone surrogate.
        """
        request = score_request(
            prompt,
            continuations=continuations,
            logprobs=logprob_options(
                top_logprobs=top_logprobs,
                logprob_token_ids=logprob_token_ids,
                full_vocabulary=full_vocabulary,
            ),
            stride=stride,
            bypass_prefix_reuse=bypass_prefix_reuse,
            priority=priority,
        )
        return self._start_scoring(request, timeout=timeout)
