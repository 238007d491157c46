"""What a server says of itself, into values.

Knows the generated messages and the value classes. Does not know how messages arrive.
"""

from __future__ import annotations

from nextok.model import Capability, Certificate, Comparison, Limits, Model
from nextok.v1 import text_generation_pb2 as pb

_CAPABILITIES = {
    pb.CAPABILITY_SCORE: Capability.SCORE,
    pb.CAPABILITY_EXPLORE: Capability.EXPLORE,
    pb.CAPABILITY_INTERACT: Capability.INTERACT,
    pb.CAPABILITY_CONSTRAINT: Capability.CONSTRAINT,
    pb.CAPABILITY_CHOICES: Capability.CHOICES,
    pb.CAPABILITY_DRAFTS: Capability.DRAFTS,
    pb.CAPABILITY_PREFIX_REUSE: Capability.PREFIX_REUSE,
}


def model(message: pb.GetModelResponse) -> Model:
    """Reads the answer to GetModel."""
    return Model(
        name=message.name,
        precision=message.precision,
        layers=message.layers,
        heads=message.heads,
        width=message.width,
        vocabulary_size=message.vocabulary_size,
        context_length=message.context_length,
        eos_token_ids=tuple(message.eos_token_ids),
        artifact_sha256=message.artifact_sha256,
        source_sha256=message.source_sha256,
        certificate=_certificate(message.certificate),
        limits=_limits(message.limits),
        capabilities=tuple(
            [_CAPABILITIES[number] for number in message.capabilities if number in _CAPABILITIES]
        ),
        server_version=message.server_version,
        onnxruntime_version=message.onnxruntime_version,
        threads=message.threads,
    )


def _certificate(message: pb.Certificate) -> Certificate:
    comparisons = [
        Comparison(
            scenario=m.scenario,
            reference=m.reference,
            positions=m.positions,
            max_abs_logprob_difference=m.max_abs_logprob_difference,
            mean_abs_logprob_difference=m.mean_abs_logprob_difference,
            mean_kl=m.mean_kl,
            top1_agreement=m.top1_agreement,
            top10_agreement=m.top10_agreement,
            reference_perplexity=m.reference_perplexity,
            perplexity=m.perplexity,
        )
        for m in message.comparisons
    ]
    return Certificate(message.positions, tuple(comparisons), message.approximate)


def _limits(message: pb.Limits) -> Limits:
    return Limits(
        max_prompt_bytes=message.max_prompt_bytes,
        max_top_logprobs=message.max_top_logprobs,
        max_logprob_token_ids=message.max_logprob_token_ids,
        max_stop=message.max_stop,
        max_stop_bytes=message.max_stop_bytes,
        max_stop_token_ids=message.max_stop_token_ids,
        max_logit_bias=message.max_logit_bias,
        slots=message.slots,
        max_queue=message.max_queue,
        max_streams_per_connection=message.max_streams_per_connection,
        max_continuations=message.max_continuations,
        max_score_tokens=message.max_score_tokens,
        max_choices=message.max_choices,
        max_branches=message.max_branches,
        max_pending_actions=message.max_pending_actions,
        max_explore_nodes=message.max_explore_nodes,
        max_explore_seconds=message.max_explore_seconds,
        max_constraint_bytes=message.max_constraint_bytes,
    )
