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
from nextok_server.artifact import Artifact
from nextok_server.config import Config
from nextok_server.constraint_compiler import ConstraintCompiler, is_offered
from nextok_server.loading import load
from nextok_server.pacing import Pacing
from nextok_server.requests import Limits
from nextok_server.runner import Runner
from nextok_server.scheduler import Scheduler
from nextok_server.service import Service
from nextok_server.tally import Tally


@dataclass(frozen=True)
class Serving:
    """A service and what runs below it.

    Attributes:
        service: The rpc methods.
        runner: The engine's thread; whoever stops serving drains and stops it.
        scheduler: Knows what runs and what waits.
        tally: Counts what is done.
        model_info: What is served.
    """

    service: Service
    runner: Runner
    scheduler: Scheduler
    tally: Tally
    model_info: pb.GetModelResponse


async def assemble(config: Config, on_death: Callable[[], None]) -> Serving:
    """Loads the artifact and starts the engine.

    Args:
        config: The settings.
        on_death: Called on the event loop when the engine stops on a fault.

    Raises:
        ArtifactError: The artifact cannot be served.
    """
    loaded = await asyncio.to_thread(load, config)
    engine = loaded.engine
    runner = Runner(
        engine,
        Pacing(config.message_interval),
        slots=config.slots,
        max_queue=config.max_queue,
        gives_way=config.give_way,
        on_death=on_death,
    )
    limits = _limits(config, loaded.artifact)
    model_info = _model_info(config, loaded.artifact, limits, loaded.runtime_version)
    service = Service(
        model_info=model_info,
        eos_token_ids=loaded.artifact.eos_token_ids,
        limits=limits,
        tokenizer=loaded.tokenizer,
        runner=runner,
        tally=engine.tally,
        constraints=ConstraintCompiler(
            loaded.tokenizer,
            loaded.artifact.tokenizer_path,
            loaded.artifact.vocabulary_size,
            config.constraint_seconds,
        ),
        drafts=config.drafts,
        stream_window=config.stream_window,
        write_timeout=config.write_timeout,
        branch_idle_seconds=config.branch_idle_seconds,
        action_timeout=config.action_timeout,
    )
    return Serving(service, runner, engine.scheduler, engine.tally, model_info)


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
        max_choices=config.max_choices,
        max_constraint_bytes=config.max_constraint_bytes,
        max_branches=config.max_branches,
        max_pending_actions=config.max_pending_actions,
        max_explore_nodes=config.max_explore_nodes,
        max_explore_seconds=config.max_explore_seconds,
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
            pb.CAPABILITY_CHOICES,
            pb.CAPABILITY_INTERACT,
            *([pb.CAPABILITY_CONSTRAINT] if is_offered() else []),
            pb.CAPABILITY_EXPLORE,
            *([pb.CAPABILITY_PREFIX_REUSE] if config.prefix_reuse else []),
        ],
    )
