"""The values that scoring gives besides its tokens: frozen, and named as on the wire.

Every class holds the fields of one message of nextok.v1, under their names and in their order.
Knows no gRPC and no protobuf; how messages become values is in `replies`.
"""

from __future__ import annotations

from dataclasses import dataclass

from nextok.values import Timings, Usage


@dataclass(frozen=True, slots=True)
class ScoreTotal:
    """One text's score.

    Attributes:
        continuation: Which continuation; None for the prompt itself.
        logprob: Sum of the log probabilities.
        scored_tokens: Tokens that have one.
        perplexity: exp(-logprob / scored_tokens); None where no token has a log probability.
        is_greedy: Whether each token that has one was the most likely one at its place.
    """

    continuation: int | None
    logprob: float
    scored_tokens: int
    perplexity: float | None
    is_greedy: bool


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """A scoring, counted.

    Attributes:
        usage: Tokens; continuations count as completion tokens. Of cached tokens, those of the
            first sequence that was computed.
        timings: Time; `prefill_seconds` ends with the first token scored, `decode_seconds` with
            the last.
        computed_tokens: Tokens that the model computed: more than there are where windows
            overlap, fewer where state was at hand.
    """

    usage: Usage
    timings: Timings
    computed_tokens: int
