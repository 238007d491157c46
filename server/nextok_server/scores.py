"""A scoring on its way to the wire: scored tokens, totals, the end.

Knows: the wire messages, the plan of the scoring, what the engine tells. Does not know: gRPC, the
engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok_server.events import Event, PromptScore
from nextok_server.replies import Replies
from nextok_server.score_plan import Part, ScoreTask
from nextok_server.sequence import Sequence


class Scores:
    """Turns what the parts of a scoring tell into replies, one part after the other.

    Attributes:
        finished: Whether the part that was begun last has been read to its end.
        computed: Tokens computed for the parts that were.
    """

    def __init__(self, task: ScoreTask, replies: Replies) -> None:
        self.finished = True
        self.computed = 0
        self._task = task
        self._replies = replies
        self._part = Part(None)
        self._sequence: Sequence | None = None
        self._first_sequence: Sequence | None = None
        self._total = _Total()
        self._first_at = self._last_at = 0.0
        # First tokens of continuations that are not reached yet; of `_part.firsts`, those to come.
        self._openings: dict[int, PromptScore] = {}
        self._firsts: list[int] = []

    def begin(self, part: Part, sequence: Sequence | None) -> None:
        """Goes on to the next part; `sequence` computes it, if there is anything to compute."""
        self.finished = False
        self._part, self._sequence = part, sequence
        self._firsts = list(part.firsts)
        if self._first_sequence is None:
            self._first_sequence = sequence

    def reply(self, events: list[Event]) -> pb.ScoreResponse:
        """What to send for some events of the part; after the last one `finished` is set.

        A part with nothing to compute has one reply, to no events.
        """
        part, response = self._part, pb.ScoreResponse()
        for score in self._own(events):
            self._total.add(score)
            response.tokens.append(
                self._replies.scored(score, start=part.start, continuation=part.continuation)
            )
        self.finished = not events or (isinstance(events[-1], PromptScore) and events[-1].last)
        if self.finished:
            if self._sequence is not None:
                self.computed += self._sequence.computed - self._sequence.cached
            if part.ends:
                response.total.CopyFrom(self._total.message(part.continuation))
                self._total = _Total()
        return response

    def summary(self) -> pb.ScoreSummary:
        """The whole scoring, counted."""
        task, first = self._task, self._first_sequence
        summary = pb.ScoreSummary(
            usage=types.Usage(
                prompt_tokens=len(task.prompt),
                completion_tokens=sum(map(len, task.continuations)),
            ),
            computed_tokens=self.computed,
        )
        if first is not None:
            summary.usage.cached_tokens = first.cached
            summary.timings.queue_seconds = first.started_at - first.arrived_at
            summary.timings.prefill_seconds = self._first_at - first.started_at
            summary.timings.decode_seconds = self._last_at - self._first_at
        return summary

    def _own(self, events: Iterable[Event]) -> Iterable[PromptScore]:
        """Scores of the part's own text; puts those of other continuations aside."""
        opening = self._opening()
        if opening is not None:
            yield opening
        for score in events:
            assert isinstance(score, PromptScore)
            self._first_at = self._first_at or score.at
            self._last_at = max(self._last_at, score.at)
            owner = self._firsts.pop(0) if self._firsts else self._part.continuation
            if owner is None or owner == self._part.continuation:
                yield score
            else:
                self._openings[owner] = score

    def _opening(self) -> PromptScore | None:
        """The text's first token, where this part's sequence does not tell of it."""
        if self._part.continuation is not None:
            return self._openings.pop(self._part.continuation, None)
        return PromptScore(0, self._task.prompt[0]) if self._total.empty else None


class _Total:
    """Sums of one text."""

    def __init__(self) -> None:
        self.empty = True
        self._logprobs: list[float] = []
        self._is_greedy = True

    def add(self, score: PromptScore) -> None:
        self.empty = False
        if score.token is not None:
            self._logprobs.append(score.token.logprob)
            self._is_greedy = self._is_greedy and score.token.rank == 1

    def message(self, continuation: int | None) -> pb.ScoreTotal:
        """The total on the wire."""
        logprob, tokens = math.fsum(self._logprobs), len(self._logprobs)
        total = pb.ScoreTotal(
            continuation=continuation,
            logprob=logprob,
            scored_tokens=tokens,
            is_greedy=self._is_greedy,
        )
        if tokens:
            total.perplexity = math.exp(-logprob / tokens)
        return total
