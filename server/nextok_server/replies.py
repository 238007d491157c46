"""From our own values to the wire.

Knows: the wire messages, the tokenizer's table of bytes. Does not know: the engine, gRPC.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok_server.artifact import Artifact
from nextok_server.candidates import Candidates
from nextok_server.events import Distribution, PromptScore, Step
from nextok_server.explore_tree import Node
from nextok_server.step_bytes import StepBytes, record
from nextok_server.tokenizer import TextToken, Tokenizer
from nextok_server.wire_format import floats

# The numbers of the fields that list candidates.
_LISTS = {
    message: (
        message.DESCRIPTOR.fields_by_name["top_logprobs"].number,
        message.DESCRIPTOR.fields_by_name["token_logprobs"].number,
    )
    for message in (types.ScoredToken, pb.Distribution)
}
_NODE_CANDIDATE = pb.ExploreNode.DESCRIPTOR.fields_by_name["candidate"].number


class Replies:
    """Builds wire messages; holds the tokenizer, which has each token's text and bytes.

    Attributes:
        steps: Encodes steps of completions; see `StepBytes.steps`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._text = tokenizer.token_text
        self._bytes = tokenizer.token_bytes
        encoder = StepBytes(tokenizer)
        self._candidates = encoder.candidates
        self.steps = encoder.steps

    def step(self, field: int, step: Step, delta: str, elapsed_seconds: float) -> bytes:
        """One step; arguments as those of `StepBytes.steps` and `record`."""
        return self.steps(field, (record(step, delta, elapsed_seconds),))

    def add_node(self, nodes: RepeatedCompositeFieldContainer[pb.ExploreNode], node: Node) -> None:
        """Adds one listed node of a tree to a message's."""
        assert node.parent is not None
        assert node.candidate is not None
        message = nodes.add(
            node_id=node.number,
            parent_id=node.parent.number,
            depth=node.depth,
            cumulative_logprob=node.cumulative,
        )
        message.MergeFromString(self._candidates(_NODE_CANDIDATE, Candidates.of((node.candidate,))))

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
            message.entropy = score.distribution.entropy
            self._list(message, score.distribution)
        return message

    def fill_distribution(
        self, message: pb.Distribution, position: int, distribution: Distribution
    ) -> None:
        """Tells of what could come next, after `position` tokens."""
        message.position = position
        message.entropy = distribution.entropy
        message.top_mass = distribution.top_mass
        message.tail_mass = distribution.tail_mass
        message.margin = distribution.margin
        if distribution.allowed_mass is not None:
            message.allowed_mass = distribution.allowed_mass
        self._list(message, distribution)

    def _list(
        self, message: types.ScoredToken | pb.Distribution, distribution: Distribution
    ) -> None:
        """Adds what was asked for of a distribution's tokens."""
        top, chosen = _LISTS[type(message)]
        listed = self._candidates(top, distribution.top)
        if distribution.chosen:
            listed += self._candidates(chosen, distribution.chosen)
        message.MergeFromString(listed)
        if distribution.full is not None:
            full = message.DESCRIPTOR.fields_by_name["full_logprobs"].number
            message.MergeFromString(floats(full, distribution.full))


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
