"""From our own values to the wire.

Knows: the wire messages, the tokenizer's table of bytes. Does not know: the engine, gRPC.
"""

from __future__ import annotations

from collections.abc import Iterable

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok_server.artifact import Artifact
from nextok_server.sampling import Candidate
from nextok_server.sequence import Distribution, PromptScore, Step
from nextok_server.tokenizer import TextToken, Tokenizer


class Replies:
    """Builds wire messages; holds the tokenizer, which has each token's text and bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._text = tokenizer.token_text
        self._bytes = tokenizer.token_bytes

    def candidate(self, candidate: Candidate) -> types.Candidate:
        """A token that could come next."""
        token_id = candidate.token_id
        return types.Candidate(
            id=token_id,
            token=self._text(token_id),
            bytes=self._bytes(token_id),
            logprob=candidate.logprob,
            rank=candidate.rank,
            prob=candidate.prob,
            kept=candidate.kept,
        )

    def step(self, step: Step, delta: str, elapsed_seconds: float) -> types.Step:
        """One step of a completion."""
        token, distribution = step.token, step.distribution
        message = types.Step(
            index=step.index,
            id=token.token_id,
            token=self._text(token.token_id),
            bytes=self._bytes(token.token_id),
            logprob=token.logprob,
            rank=token.rank,
            prob=token.prob,
            delta=delta,
            top_logprobs=[self.candidate(c) for c in distribution.top],
            token_logprobs=[self.candidate(c) for c in distribution.chosen],
            entropy=distribution.entropy,
            surprisal=-token.logprob,
            top_mass=distribution.top_mass,
            tail_mass=distribution.tail_mass,
            margin=distribution.margin,
            forced=step.forced,
            elapsed_seconds=elapsed_seconds,
        )
        if distribution.full is not None:
            message.full_logprobs.extend(distribution.full)
        return message

    def scored(
        self, score: PromptScore, *, start: int = 0, continuation: int | None = None
    ) -> types.ScoredToken:
        """A given token with its probability.

        Args:
            score: What is known of it.
            start: Place in its text from where on the model saw it.
            continuation: What it belongs to; None for the prompt.
        """
        message = types.ScoredToken(
            position=start + score.position,
            id=score.token_id,
            token=self._text(score.token_id),
            bytes=self._bytes(score.token_id),
            context_tokens=score.position,
            continuation=continuation,
        )
        if score.token is not None and score.distribution is not None:
            message.logprob = score.token.logprob
            message.rank = score.token.rank
            message.surprisal = -score.token.logprob
            self._describe(message, score.distribution)
        return message

    def _describe(self, message: types.ScoredToken, distribution: Distribution) -> None:
        message.entropy = distribution.entropy
        message.top_logprobs.extend(self.candidate(c) for c in distribution.top)
        message.token_logprobs.extend(self.candidate(c) for c in distribution.chosen)
        if distribution.full is not None:
            message.full_logprobs.extend(distribution.full)


def text_tokens(tokens: Iterable[TextToken]) -> list[types.TextToken]:
    """A text's tokens with their places."""
    return [
        types.TextToken(
            id=token.id,
            token=token.token,
            bytes=token.bytes,
            byte_start=token.byte_start,
            byte_end=token.byte_end,
            char_start=token.char_start,
            char_end=token.char_end,
        )
        for token in tokens
    ]


def certificate(artifact: Artifact) -> pb.Certificate:
    """What the export measured; see docs/artifact.md."""
    content = artifact.certificate
    names = [field.name for field in pb.Certificate.Comparison.DESCRIPTOR.fields]
    return pb.Certificate(
        positions=content["positions"],
        approximate=content["approximate"],
        comparisons=[
            pb.Certificate.Comparison(**{name: comparison[name] for name in names})
            for comparison in content["comparisons"]
        ],
    )
