"""What GetModel tells of the served model: frozen values, named as on the wire.

Every class holds the fields of one message of nextok.v1, under their names and in their order.
Knows no gRPC and no protobuf; how messages become values is in `replies`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Capability(StrEnum):
    """A part of the service that a server may lack."""

    SCORE = "score"
    EXPLORE = "explore"
    INTERACT = "interact"
    CONSTRAINT = "constraint"
    CHOICES = "choices"
    DRAFTS = "drafts"
    PREFIX_REUSE = "prefix_reuse"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One way of computing, compared with the reference on the same tokens.

    Attributes:
        scenario: prefill, chunked_prefill, decode, padded_batch or context_end.
        reference: What it is compared with: torch or onnx.
        positions: Positions compared.
        max_abs_logprob_difference: Largest difference of a log probability.
        mean_abs_logprob_difference: Mean difference of a log probability.
        mean_kl: Mean Kullback-Leibler divergence from the reference, in nats.
        top1_agreement: Share of positions whose most likely token is the same.
        top10_agreement: Mean share of the ten most likely tokens that both have.
        reference_perplexity: Perplexity of the reference on these tokens.
        perplexity: Perplexity of the served graph on them.
    """

    scenario: str
    reference: str
    positions: int
    max_abs_logprob_difference: float
    mean_abs_logprob_difference: float
    mean_kl: float
    top1_agreement: float
    top10_agreement: float
    reference_perplexity: float
    perplexity: float


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the export measured: the served graph against the checkpoint it came from.

    Attributes:
        positions: Positions compared, over all ways of computing them.
        comparisons: One entry a way of computing.
        approximate: Whether the precision is labelled approximate.
    """

    positions: int
    comparisons: tuple[Comparison, ...]
    approximate: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a request may ask for.

    Attributes:
        max_prompt_bytes: Bytes of a text, in UTF-8.
        max_top_logprobs: Entries of top_logprobs.
        max_logprob_token_ids: Token ids to report at every step.
        max_stop: Stop strings.
        max_stop_bytes: Bytes of one stop string.
        max_stop_token_ids: Stop tokens.
        max_logit_bias: Entries of logit_bias.
        slots: Requests that are computed at the same time.
        max_queue: Requests that may wait for a slot.
        max_streams_per_connection: Streams on one connection.
        max_continuations: Continuations in one scoring.
        max_score_tokens: Tokens that one scoring may have computed, overlaps included.
        max_choices: Completions of one prompt in one request.
        max_branches: Branches of an interactive generation at the same time.
        max_pending_actions: Actions of one that are read before the first is answered.
        max_explore_nodes: Nodes of a tree that is explored.
        max_explore_seconds: Seconds that a tree may be explored.
        max_constraint_bytes: Bytes of a constraint.
    """

    max_prompt_bytes: int
    max_top_logprobs: int
    max_logprob_token_ids: int
    max_stop: int
    max_stop_bytes: int
    max_stop_token_ids: int
    max_logit_bias: int
    slots: int
    max_queue: int
    max_streams_per_connection: int
    max_continuations: int
    max_score_tokens: int
    max_choices: int
    max_branches: int
    max_pending_actions: int
    max_explore_nodes: int
    max_explore_seconds: float
    max_constraint_bytes: int


@dataclass(frozen=True, slots=True)
class Model:
    """What is served.

    Attributes:
        name: The model's name, as the export was given it.
        precision: Precision of the weights: fp32, int8 or int4.
        layers: Transformer layers.
        heads: Attention heads in a layer.
        width: Width of the hidden state.
        vocabulary_size: Tokens in the vocabulary; ids run from 0 to one less.
        context_length: Most tokens that prompt and completion can have together.
        eos_token_ids: Tokens with which the model itself ends a text.
        artifact_sha256: SHA-256 of the artifact's manifest. Equal hashes, equal models.
        source_sha256: SHA-256 of the checkpoint's weights.
        certificate: What the export measured against the checkpoint.
        limits: What a request may ask for.
        capabilities: Which parts of the service the server has; those that are newer than
            this client are left out.
        server_version: Version of the server.
        onnxruntime_version: Version of ONNX Runtime.
        threads: Threads that compute one step.
    """

    name: str
    precision: str
    layers: int
    heads: int
    width: int
    vocabulary_size: int
    context_length: int
    eos_token_ids: tuple[int, ...]
    artifact_sha256: str
    source_sha256: str
    certificate: Certificate
    limits: Limits
    capabilities: tuple[Capability, ...]
    server_version: str
    onnxruntime_version: str
    threads: int
