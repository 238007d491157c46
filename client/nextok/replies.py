"""Messages of nextok.v1 into values.

Knows the generated messages and the value classes. Does not know how messages arrive. What is
read for every step is written out by position and without reflection: it is done a dozen times
a step, on the cores that the model may be running on.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence

from google.protobuf.internal.containers import RepeatedScalarFieldContainer

from nextok.candidates import NO_CANDIDATES, Candidates
from nextok.scores import ScoreSummary, ScoreTotal
from nextok.tokens import Detokenized, TextToken, TextTokens
from nextok.trees import ExploreEnd, ExploreNode, ExploreSummary
from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok.values import (
    Distribution,
    Finish,
    FinishReason,
    GenerateSummary,
    PromptInfo,
    ScoredToken,
    Step,
    Timings,
    Usage,
)

_FINISH_REASONS = {
    types.FINISH_REASON_STOP: FinishReason.STOP,
    types.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    types.FINISH_REASON_CONTEXT: FinishReason.CONTEXT,
}
_EXPLORE_ENDS = {
    pb.EXPLORE_END_COMPLETE: ExploreEnd.COMPLETE,
    pb.EXPLORE_END_NODES: ExploreEnd.NODES,
    pb.EXPLORE_END_SECONDS: ExploreEnd.SECONDS,
}


def text_tokens(messages: Iterable[types.TextToken]) -> TextTokens:
    """Reads a text's tokens."""
    return TextTokens(
        [
            TextToken(m.id, m.token, m.bytes, m.byte_start, m.byte_end, m.char_start, m.char_end)
            for m in messages
        ]
    )


def tokenized(message: pb.TokenizeResponse) -> TextTokens:
    """Reads the answer to Tokenize."""
    return text_tokens(message.tokens)


def detokenized(message: pb.DetokenizeResponse) -> Detokenized:
    """Reads the answer to Detokenize."""
    return Detokenized(message.text, message.bytes, text_tokens(message.tokens))


def candidates(messages: Sequence[types.Candidate]) -> Candidates:
    """Reads tokens that could come next."""
    return Candidates(messages) if messages else NO_CANDIDATES


def step(m: types.Step) -> Step:
    """Reads one step."""
    return Step(
        m.index,
        m.choice,
        m.id,
        m.token,
        m.bytes,
        m.logprob,
        m.rank,
        m.prob,
        m.delta,
        candidates(m.top_logprobs),
        candidates(m.token_logprobs),
        _floats(m.full_logprobs),
        m.entropy,
        m.surprisal,
        m.top_mass,
        m.tail_mass,
        m.margin,
        m.forced,
        m.allowed_mass if m.HasField("allowed_mass") else None,
        m.elapsed_seconds,
    )


def distribution(m: pb.Distribution) -> Distribution:
    """Reads what could come next."""
    return Distribution(
        m.position,
        candidates(m.top_logprobs),
        candidates(m.token_logprobs),
        _floats(m.full_logprobs),
        m.entropy,
        m.top_mass,
        m.tail_mass,
        m.margin,
        m.allowed_mass if m.HasField("allowed_mass") else None,
    )


def scored_token(m: types.ScoredToken) -> ScoredToken:
    """Reads one given token with its probability."""
    return ScoredToken(
        m.position,
        m.id,
        m.token,
        m.bytes,
        m.logprob if m.HasField("logprob") else None,
        m.rank if m.HasField("rank") else None,
        m.entropy if m.HasField("entropy") else None,
        m.surprisal if m.HasField("surprisal") else None,
        candidates(m.top_logprobs),
        candidates(m.token_logprobs),
        m.context_tokens,
        m.continuation if m.HasField("continuation") else None,
        _floats(m.full_logprobs),
    )


def prompt_info(message: pb.PromptInfo) -> PromptInfo:
    """Reads what a prompt was read as."""
    tokens = text_tokens(message.tokens)
    return PromptInfo(
        tokens, message.seed, message.max_tokens, message.artifact_sha256, message.drafts
    )


def finish(message: types.Finish) -> Finish:
    """Reads the end of a completion."""
    matched = message.WhichOneof("matched")
    return Finish(
        choice=message.choice,
        finish_reason=_FINISH_REASONS.get(message.finish_reason, FinishReason.UNSPECIFIED),
        stop=message.stop if matched == "stop" else None,
        stop_token_id=message.stop_token_id if matched == "stop_token_id" else None,
        eos_token_id=message.eos_token_id if matched == "eos_token_id" else None,
        completion_tokens=message.completion_tokens,
        digest=message.digest,
    )


def generate_summary(message: pb.GenerateSummary) -> GenerateSummary:
    """Reads the counts of a generation."""
    return GenerateSummary(_usage(message.usage), _timings(message.timings))


def score_total(message: pb.ScoreTotal) -> ScoreTotal:
    """Reads one text's score."""
    return ScoreTotal(
        message.continuation if message.HasField("continuation") else None,
        message.logprob,
        message.scored_tokens,
        message.perplexity if message.HasField("perplexity") else None,
        message.is_greedy,
    )


def score_summary(message: pb.ScoreSummary) -> ScoreSummary:
    """Reads the counts of a scoring."""
    usage, timings = _usage(message.usage), _timings(message.timings)
    return ScoreSummary(usage, timings, message.computed_tokens)


def explore_node(message: pb.ExploreNode) -> ExploreNode:
    """Reads one node of a tree."""
    return ExploreNode(
        message.node_id,
        message.parent_id,
        message.depth,
        candidates([message.candidate])[0],
        message.cumulative_logprob,
    )


def explore_summary(message: pb.ExploreSummary) -> ExploreSummary:
    """Reads the counts of a tree."""
    return ExploreSummary(
        message.nodes,
        message.expanded,
        message.leaf_mass,
        _usage(message.usage),
        _timings(message.timings),
        message.computed_tokens,
        _EXPLORE_ENDS.get(message.end, ExploreEnd.UNSPECIFIED),
    )


def _usage(message: types.Usage) -> Usage:
    return Usage(
        message.prompt_tokens,
        message.completion_tokens,
        message.cached_tokens,
        message.drafted_tokens,
        message.accepted_draft_tokens,
    )


def _timings(message: types.Timings) -> Timings:
    return Timings(message.queue_seconds, message.prefill_seconds, message.decode_seconds)


def _floats(field: RepeatedScalarFieldContainer[float]) -> Sequence[float]:
    """Returns a packed field as an array, () where it is empty."""
    if not field:
        return ()
    # Through protobuf's own bytes, 4 a float and little-endian, at the end of a message that
    # holds nothing else: less than half the time of turning 50,257 floats into objects.
    carrier = types.Step()
    carrier.full_logprobs.MergeFrom(field)
    floats = array("f")
    floats.frombytes(memoryview(carrier.SerializeToString())[-4 * len(field) :])
    if sys.byteorder == "big":
        floats.byteswap()
    return floats
