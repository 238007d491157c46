"""One completion on its way to the wire: text, stop strings, digest, end.

Knows: the wire messages, text, the engine's steps. Does not know: gRPC, the engine.
"""

from __future__ import annotations

from collections.abc import Sequence as Many

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok_server.digest import completion_digest
from nextok_server.replies import Replies
from nextok_server.sequence import Event, FinishReason, PromptScore, Sequence, Step
from nextok_server.text_stream import TextStream
from nextok_server.tokenizer import Tokenizer

_REASONS = {
    FinishReason.STOP_TOKEN: types.FINISH_REASON_STOP,
    FinishReason.EOS: types.FINISH_REASON_STOP,
    FinishReason.LENGTH: types.FINISH_REASON_LENGTH,
    FinishReason.CONTEXT: types.FINISH_REASON_CONTEXT,
}


class Completion:
    """Turns the events of one sequence into replies.

    Steps that the client already has (`Request.forced`) go through the text and the digest
    but are not sent.

    Attributes:
        finished: Whether it has ended.
        reason: Why it has: stop, length or context.
    """

    def __init__(
        self,
        sequence: Sequence,
        stop: Many[str],
        *,
        artifact_sha256: str,
        tokenizer: Tokenizer,
        replies: Replies,
    ) -> None:
        self._sequence = sequence
        self._text = TextStream(stop)
        self._artifact_sha256 = artifact_sha256
        self._tokenizer = tokenizer
        self._replies = replies
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self._first_at = self._last_at = 0.0
        self._drafted = self._accepted = 0
        self.finished = False
        self.reason = ""

    @property
    def tokens(self) -> int:
        """How many tokens it has; the engine may be ahead of a stop string."""
        return len(self._ids)

    def reply(self, events: list[Event]) -> pb.GenerateResponse:
        """What to send for some events; after the last one `finished` is set."""
        response = pb.GenerateResponse()
        for event in events:
            if isinstance(event, PromptScore):
                response.prompt_logprobs.append(self._replies.scored(event))
                continue
            assert isinstance(event, Step)
            self._add_step(event, response)
            if self.finished:
                response.summary.CopyFrom(self._summary())
                break
        return response

    def _add_step(self, step: Step, response: pb.GenerateResponse) -> None:
        self._ids.append(step.token.token_id)
        self._logprobs.append(step.token.logprob)
        self._first_at = self._first_at or step.at
        self._last_at = step.at
        self._drafted, self._accepted = step.drafted, step.accepted
        delta, stop = self._push(step)
        if not step.forced:
            elapsed = step.at - self._sequence.arrived_at
            self._replies.add_step(response.steps, step, delta, elapsed)
        if step.finish is not None or stop is not None:
            self.finished = True
            response.finish.CopyFrom(self._finish(step, stop))
            reason = types.FinishReason.Name(response.finish.finish_reason)
            self.reason = reason.removeprefix("FINISH_REASON_").lower()

    def _push(self, step: Step) -> tuple[str, str | None]:
        """The text that a step releases, and the stop string that it completes."""
        ended_by_token = step.finish in (FinishReason.EOS, FinishReason.STOP_TOKEN)
        if ended_by_token:
            return self._text.finish(), None
        minimum = self._sequence.request.stop.min_tokens
        token_bytes = self._tokenizer.token_bytes(step.token.token_id)
        pushed = self._text.push(token_bytes, check_stop=step.index >= minimum)
        if pushed.stop is None and step.finish is not None:
            return pushed.delta + self._text.finish(), None
        return pushed.delta, pushed.stop

    def _finish(self, step: Step, stop: str | None) -> types.Finish:
        digest = completion_digest(
            self._artifact_sha256, self._sequence.request, self._ids, self._logprobs
        )
        finish = types.Finish(completion_tokens=len(self._ids), digest=digest)
        if stop is not None:
            finish.finish_reason = types.FINISH_REASON_STOP
            finish.stop = stop
            return finish
        assert step.finish is not None
        finish.finish_reason = _REASONS[step.finish]
        if step.finish is FinishReason.EOS:
            finish.eos_token_id = step.token.token_id
        elif step.finish is FinishReason.STOP_TOKEN:
            finish.stop_token_id = step.token.token_id
        return finish

    def _summary(self) -> pb.GenerateSummary:
        sequence = self._sequence
        return pb.GenerateSummary(
            usage=types.Usage(
                prompt_tokens=len(sequence.request.prompt),
                completion_tokens=len(self._ids),
                cached_tokens=sequence.cached,
                drafted_tokens=self._drafted,
                accepted_draft_tokens=self._accepted,
            ),
            timings=types.Timings(
                queue_seconds=sequence.started_at - sequence.arrived_at,
                prefill_seconds=self._first_at - sequence.started_at,
                decode_seconds=self._last_at - self._first_at,
            ),
        )
