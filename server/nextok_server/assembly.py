"""Builds the service from the settings, down to the model.

Knows: every other module's constructor. Does not know: what they do, ports, health.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.metadata import version

from nextok.v1 import text_generation_pb2 as pb
from nextok_server import replies
from nextok_server.artifact import Artifact, load_artifact
from nextok_server.calls import OneCall, SeparateCalls
from nextok_server.config import Config
from nextok_server.engine import Engine
from nextok_server.kv_cache import KVCache
from nextok_server.model import Model
from nextok_server.pacing import Pacing
from nextok_server.requests import Limits
from nextok_server.runner import Runner
from nextok_server.scheduler import Scheduler
from nextok_server.service import Service
from nextok_server.tokenizer import Tokenizer

_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Serving:
    """A service and what runs below it.

    Attributes:
        service: The rpc methods.
        runner: The engine's thread; whoever stops serving drains and stops it.
        model_name: As the export was given it.
        precision: fp32, int8 or int4.
        vocabulary_size: Tokens.
    """

    service: Service
    runner: Runner
    model_name: str
    precision: str
    vocabulary_size: int


async def assemble(config: Config, on_death: Callable[[], None]) -> Serving:
    """Loads the artifact and starts the engine.

    Args:
        config: The settings.
        on_death: Called on the event loop when the engine stops on a fault.

    Raises:
        ArtifactError: The artifact cannot be served.
    """
    artifact = await asyncio.to_thread(load_artifact, config.artifact)
    tokenizer = await asyncio.to_thread(Tokenizer.from_file, artifact.tokenizer_path)
    calls = (SeparateCalls if artifact.kernels is None else OneCall)(
        config.prefill_chunk, config.slots
    )
    model = await asyncio.to_thread(
        Model,
        artifact,
        slots=config.slots,
        chunk=config.prefill_chunk,
        tokens=calls.most_tokens,
        threads=config.threads,
        spinning=config.spinning,
    )
    retained_tokens = config.retained_mb * _MEBIBYTE // model.cache.token_bytes
    cache = KVCache(config.slots, model.cache, retained_tokens)
    scheduler = Scheduler(cache, calls, config.prefill_chunk, reuse=config.prefix_reuse)
    runner = Runner(
        Engine(model, scheduler),
        Pacing(config.message_interval),
        slots=config.slots,
        max_queue=config.max_queue,
        on_death=on_death,
    )
    limits = _limits(config, artifact)
    service = Service(
        model_info=_model_info(config, artifact, limits, model.runtime_version),
        eos_token_ids=artifact.eos_token_ids,
        limits=limits,
        tokenizer=tokenizer,
        runner=runner,
        drafts=config.drafts,
        stream_window=config.stream_window,
        write_timeout=config.write_timeout,
    )
    return Serving(
        service, runner, artifact.model_name, artifact.precision, artifact.vocabulary_size
    )


def _limits(config: Config, artifact: Artifact) -> Limits:
    return Limits(
        vocabulary_size=artifact.vocabulary_size,
        context_length=artifact.context_length,
        max_prompt_bytes=config.max_prompt_bytes,
        max_top_logprobs=artifact.top_k,
        max_logprob_token_ids=config.max_logprob_token_ids,
        max_stop=config.max_stop,
        max_stop_bytes=config.max_stop_bytes,
        max_stop_token_ids=config.max_stop_token_ids,
        max_logit_bias=config.max_logit_bias,
        max_continuations=config.max_continuations,
        max_score_tokens=config.max_score_tokens,
    )


def _model_info(
    config: Config, artifact: Artifact, limits: Limits, runtime_version: str
) -> pb.GetModelResponse:
    shared = {field.name for field in pb.Limits.DESCRIPTOR.fields} & {
        f.name for f in fields(limits)
    }
    return pb.GetModelResponse(
        name=artifact.model_name,
        precision=artifact.precision,
        layers=artifact.layers,
        heads=artifact.heads,
        width=artifact.width,
        vocabulary_size=artifact.vocabulary_size,
        context_length=artifact.context_length,
        eos_token_ids=artifact.eos_token_ids,
        artifact_sha256=artifact.sha256,
        source_sha256=artifact.source_sha256,
        certificate=replies.certificate(artifact),
        limits=pb.Limits(
            **{name: getattr(limits, name) for name in shared},
            slots=config.slots,
            max_queue=config.max_queue,
            max_streams_per_connection=config.max_streams_per_connection,
        ),
        server_version=version("nextok"),
        onnxruntime_version=runtime_version,
        threads=config.threads,
        capabilities=[
            pb.CAPABILITY_DRAFTS,
            pb.CAPABILITY_SCORE,
            *([pb.CAPABILITY_PREFIX_REUSE] if config.prefix_reuse else []),
        ],
    )
