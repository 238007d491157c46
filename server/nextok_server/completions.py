"""A request's completions on their way to the wire, mixed as they come, and what they add up to.

Knows: the wire messages, the engine's events. Does not know: gRPC, the engine, text.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Many

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok_server.choices import Choices
from nextok_server.completion import Completion
from nextok_server.events import Event, PromptScore, Step
from nextok_server.replies import Replies
from nextok_server.streams import Stream
from nextok_server.wire_format import entry

_STEPS = pb.GenerateResponse.DESCRIPTOR.fields_by_name["steps"].number
_PROMPT_LOGPROBS = pb.GenerateResponse.DESCRIPTOR.fields_by_name["prompt_logprobs"].number


class Completions:
    """Turns the events of a request's sequences into replies.

    Args:
        choices: The sequences.
        completions: What each of them becomes, by number.
        replies: Builds messages.
    """

    def __init__(self, choices: Choices, completions: Many[Completion], replies: Replies) -> None:
        self._root = choices.root
        self._completions = dict(zip(choices.streams, completions, strict=True))
        self._replies = replies
        self._running = len(completions)
        # The root computes until all have begun; of one alone, it is the same.
        self._forks = self._root not in self._completions
        self._over: list[Stream] = []

    @property
    def finished(self) -> bool:
        """Whether all have ended."""
        return not self._running

    @property
    def tokens(self) -> int:
        """How many tokens they have together."""
        return sum(completion.tokens for completion in self._completions.values())

    def replies(self, told: Many[tuple[Stream, list[Event]]]) -> Iterator[bytes]:
        """What to send for some events, by sequence, encoded. A message holds one end at most."""
        scores: list[bytes] = []
        records: list[bytes] = []
        for stream, events in told:
            completion = self._completions.get(stream)
            for event in events:
                if isinstance(event, PromptScore):
                    scored = self._replies.scored(event)
                    scores.append(entry(_PROMPT_LOGPROBS, scored.SerializeToString()))
                elif isinstance(event, Step) and completion and not completion.finished:
                    finish = completion.add(event, records)
                    if finish is not None:
                        self._running -= 1
                        self._over.append(stream)
                        end = pb.GenerateResponse(finish=finish)
                        if self.finished:
                            end.summary.CopyFrom(self._summary())
                        yield self._encoded(scores, records) + end.SerializeToString()
                        scores, records = [], []
        if self._forks and all(completion.tokens for completion in self._completions.values()):
            self._forks = False
            self._over.append(self._root)
        if scores or records:
            yield self._encoded(scores, records)

    def _encoded(self, scores: list[bytes], records: list[bytes]) -> bytes:
        """Fields of a GenerateResponse."""
        steps = self._replies.steps(_STEPS, records) if records else b""
        return b"".join((*scores, steps))

    def over(self) -> list[Stream]:
        """Sequences that nothing is needed of any more, each of them once."""
        over, self._over = self._over, []
        return over

    def _summary(self) -> pb.GenerateSummary:
        root, completions = self._root.sequence, self._completions.values()
        first_at = min(completion.first_at for completion in completions)
        return pb.GenerateSummary(
            usage=types.Usage(
                prompt_tokens=len(root.request.prompt),
                completion_tokens=self.tokens,
                cached_tokens=root.cached,
                drafted_tokens=sum(completion.drafted for completion in completions),
                accepted_draft_tokens=sum(completion.accepted for completion in completions),
            ),
            timings=types.Timings(
                queue_seconds=root.started_at - root.arrived_at,
                prefill_seconds=first_at - root.started_at,
                decode_seconds=max(completion.last_at for completion in completions) - first_at,
            ),
        )
