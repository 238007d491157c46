"""The values that generation gives: frozen, and named as on the wire.

Every class holds the fields of one message of nextok.v1, under their names and in their order.
Logarithms are natural, entropies and surprisals are in nats, ranks start at 1, times are in
seconds. Knows no gRPC and no protobuf; how messages become values is in `replies`.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from nextok import notebook
from nextok.candidates import Candidate
from nextok.tokens import TextTokens

# Names a type that the fields called `bytes` would hide.
_Bytes = builtins.bytes


class FinishReason(StrEnum):
    """Why a completion ended."""

    UNSPECIFIED = "unspecified"
    """Not told, or a reason that is newer than this client."""
    STOP = "stop"
    """A stop string, a stop token or the model's end-of-text token; where none of them is named,
    the constraint's form is complete."""
    LENGTH = "length"
    """max_tokens were generated."""
    CONTEXT = "context"
    """The model's context is full."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of generation: the token that was chosen, and what it was chosen from.

    Attributes:
        index: Number of the step in its completion, from 0.
        choice: Which of several completions of one prompt this belongs to, from 0.
        id: Id of the chosen token.
        token: Its text. Bytes that are not UTF-8 by themselves show as U+FFFD.
        bytes: The tokenizer's own bytes for it.
        logprob: Its log probability in the model's raw distribution.
        rank: Its place in the raw distribution, 1 for the most likely token.
        prob: The probability that the sampler gave it.
        delta: Text to append to what came before; always whole characters.
        top_logprobs: The most likely tokens, most likely first, as many as were asked for.
        token_logprobs: The tokens that were asked for by id, in the order of the request.
        full_logprobs: The log probability of every token, by id: an `array('f')`, which
            numpy.asarray reads without a copy. () if it was not asked for.
        entropy: Entropy of the raw distribution.
        surprisal: -logprob of the chosen token.
        top_mass: Probability of the tokens in top_logprobs together, raw.
        tail_mass: Probability of all others together, raw.
        margin: Difference between the log probabilities of the two most likely tokens.
        forced: Whether the client gave this token rather than the sampler.
        allowed_mass: Raw probability that the constraint left in; None without one.
        elapsed_seconds: From the request's arrival until the step was computed.
    """

    index: int
    choice: int
    id: int
    token: str
    bytes: _Bytes
    logprob: float
    rank: int
    prob: float
    delta: str
    top_logprobs: Sequence[Candidate]
    token_logprobs: Sequence[Candidate]
    full_logprobs: Sequence[float]
    entropy: float
    surprisal: float
    top_mass: float
    tail_mass: float
    margin: float
    forced: bool
    allowed_mass: float | None
    elapsed_seconds: float

    def _repr_html_(self) -> str:
        return notebook.step_table(self)


@dataclass(frozen=True, slots=True)
class Distribution:
    """What could come next.

    Attributes:
        position: Tokens before it, the prompt's included.
        top_logprobs: The most likely tokens, most likely first.
        token_logprobs: The tokens that were asked for by id, in the order of the request.
        full_logprobs: As in `Step`.
        entropy: Entropy of the raw distribution.
        top_mass: Probability of the tokens in top_logprobs together, raw.
        tail_mass: Probability of all others together, raw.
        margin: Difference between the log probabilities of the two most likely tokens.
        allowed_mass: Raw probability that the constraint leaves in; None without one.
    """

    position: int
    top_logprobs: Sequence[Candidate]
    token_logprobs: Sequence[Candidate]
    full_logprobs: Sequence[float]
    entropy: float
    top_mass: float
    tail_mass: float
    margin: float
    allowed_mass: float | None

    def _repr_html_(self) -> str:
        return notebook.distribution(self)


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """A given token with the probability that the model had for it.

    Attributes:
        position: Place of the token in its text, from 0.
        id: Id in the vocabulary.
        token: Its text. Bytes that are not UTF-8 by themselves show as U+FFFD.
        bytes: The tokenizer's own bytes for it.
        logprob: Log probability after the tokens before it; None for the first of a text.
        rank: Its place in the distribution, from 1; None with logprob.
        entropy: Entropy of the distribution; None with logprob.
        surprisal: -logprob; None with logprob.
        top_logprobs: The most likely tokens at this place, as many as were asked for.
        token_logprobs: The tokens that were asked for by id, in the order of the request.
        context_tokens: How many tokens before it the model saw.
        continuation: Which continuation it belongs to; None for tokens of the prompt.
        full_logprobs: As in `Step`.
    """

    position: int
    id: int
    token: str
    bytes: _Bytes
    logprob: float | None
    rank: int | None
    entropy: float | None
    surprisal: float | None
    top_logprobs: Sequence[Candidate]
    token_logprobs: Sequence[Candidate]
    context_tokens: int
    continuation: int | None
    full_logprobs: Sequence[float]

    def _repr_html_(self) -> str:
        return notebook.step_table(self)


@dataclass(frozen=True, slots=True)
class PromptInfo:
    """What a prompt was read as.

    Attributes:
        tokens: The prompt's tokens.
        seed: Seed of the draws, given or picked.
        max_tokens: Most tokens that a completion can get.
        artifact_sha256: The artifact that computes the completion, as in `Model`.
        drafts: Whether tokens may be drafted, as asked for or as the server is set.
    """

    tokens: TextTokens
    seed: int
    max_tokens: int
    artifact_sha256: str
    drafts: bool


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of one completion.

    Attributes:
        choice: Which completion ended, from 0.
        finish_reason: Why.
        stop: The stop string that matched, if one did.
        stop_token_id: The stop token that matched, if one did.
        eos_token_id: The model's own end-of-text token, if it came.
        completion_tokens: How many tokens the completion has.
        digest: SHA-256, in hexadecimal, over model, parameters, token ids and the bits of the
            log probabilities. Two completions with one digest are the same to the bit.
    """

    choice: int
    finish_reason: FinishReason
    stop: str | None
    stop_token_id: int | None
    eos_token_id: int | None
    completion_tokens: int
    digest: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens counted.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens generated, in all completions.
        cached_tokens: Tokens of the prompt whose state was at hand from another request.
        drafted_tokens: Tokens that were drafted, to be checked several at a time.
        accepted_draft_tokens: Those of them that were right.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    drafted_tokens: int
    accepted_draft_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of a request went, in seconds.

    Attributes:
        queue_seconds: From the arrival to the first computation.
        prefill_seconds: From there to the first token.
        decode_seconds: From the first token to the last.
    """

    queue_seconds: float
    prefill_seconds: float
    decode_seconds: float


@dataclass(frozen=True, slots=True)
class GenerateSummary:
    """A generation, counted.

    Attributes:
        usage: Tokens.
        timings: Time.
    """

    usage: Usage
    timings: Timings
