"""One completion on its way to the wire: text, stop strings, digest, end.

Knows: the wire messages, text, the engine's steps. Does not know: gRPC, the engine.
"""

from __future__ import annotations

from collections.abc import Sequence as Many

from nextok.v1 import types_pb2 as types
from nextok_server.digest import completion_digest
from nextok_server.events import FinishReason, Step
from nextok_server.sequence import Sequence
from nextok_server.step_bytes import record
from nextok_server.text_stream import TextStream
from nextok_server.tokenizer import Tokenizer

_REASONS = {
    FinishReason.STOP_TOKEN: types.FINISH_REASON_STOP,
    FinishReason.EOS: types.FINISH_REASON_STOP,
    FinishReason.FORM: types.FINISH_REASON_STOP,
    FinishReason.LENGTH: types.FINISH_REASON_LENGTH,
    FinishReason.CONTEXT: types.FINISH_REASON_CONTEXT,
}


class Completion:
    """Turns the steps of one sequence into those of a reply.

    Steps that the client already has (`Request.forced`) go through the text and the digest
    but are not sent.

    Attributes:
        finished: Whether it has ended; the engine may be ahead of a stop string.
        reason: Why it has: stop, length or context.
        first_at: `time.monotonic()` when its first token was computed; 0 before that.
        last_at: The same of its last.
        drafted: Tokens that were drafted for it.
        accepted: Those of them that were right.
    """

    def __init__(
        self,
        sequence: Sequence,
        stop: Many[str],
        *,
        choice: int,
        artifact_sha256: str,
        tokenizer: Tokenizer,
    ) -> None:
        self._sequence = sequence
        self._text = TextStream(stop)
        self._artifact_sha256 = artifact_sha256
        self._token_bytes = tokenizer.token_bytes
        self._min_tokens = sequence.request.stop.min_tokens
        self._choice = choice
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self.finished = False
        self.reason = ""
        self.first_at = self.last_at = 0.0
        self.drafted = self.accepted = 0

    @property
    def tokens(self) -> int:
        """How many tokens it has."""
        return len(self._ids)

    def add(self, step: Step, records: list[bytes]) -> types.Finish | None:
        """Adds what is to be sent of a step.

        Args:
            step: Of the completion's sequence.
            records: Of steps that a message is made of.

        Returns:
            The completion's end, with its last step.
        """
        token = step.token
        self._ids.append(token.token_id)
        self._logprobs.append(token.logprob)
        if not self.first_at:
            self.first_at = step.at
        self.last_at = step.at
        self.drafted, self.accepted = step.drafted, step.accepted
        delta, stop = self._push(step)
        if not step.forced:
            elapsed = step.at - self._sequence.arrived_at
            records.append(record(step, delta, elapsed, self._choice))
        if step.finish is None and stop is None:
            return None
        self.finished = True
        finish = self._finish(step, stop)
        reason = types.FinishReason.Name(finish.finish_reason)
        self.reason = reason.removeprefix("FINISH_REASON_").lower()
        return finish

    def _push(self, step: Step) -> tuple[str, str | None]:
        """The text that a step releases, and the stop string that it completes."""
        finish = step.finish
        if finish is FinishReason.EOS or finish is FinishReason.STOP_TOKEN:
            return self._text.finish(), None
        token_bytes = self._token_bytes(step.token.token_id)
        delta, stop = self._text.push(token_bytes, check_stop=step.index >= self._min_tokens)
        if stop is None and finish is not None:
            return delta + self._text.finish(), None
        return delta, stop

    def _finish(self, step: Step, stop: str | None) -> types.Finish:
        digest = completion_digest(
            self._artifact_sha256, self._sequence.request, self._ids, self._logprobs
        )
        finish = types.Finish(choice=self._choice, completion_tokens=len(self._ids), digest=digest)
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
