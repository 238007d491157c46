"""Builds everything and wires it; health; graceful stop.

Knows: every other module's constructor. Does not know: what they do.
"""

from __future__ import annotations

import asyncio
from dataclasses import fields
from importlib.metadata import version

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from nextok.v1 import text_generation_pb2 as pb
from nextok_server import replies
from nextok_server.artifact import Artifact, load_artifact
from nextok_server.calls import OneCall, SeparateCalls
from nextok_server.config import Config, ConfigError
from nextok_server.engine import Engine
from nextok_server.kv_cache import KVCache
from nextok_server.model import Model
from nextok_server.pacing import Pacing
from nextok_server.requests import Limits
from nextok_server.runner import Runner
from nextok_server.scheduler import Scheduler
from nextok_server.service import SERVICE, Service, method_handlers
from nextok_server.tokenizer import Tokenizer
from nextok_server.transport import add_port, listen, make_server

_log = structlog.get_logger(__name__)

_MEBIBYTE = 1 << 20
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class App:
    """A running server.

    Attributes:
        port: Where it listens.
        health_port: Where it listens for health alone, if anywhere.
    """

    def __init__(
        self,
        servers: list[grpc.aio.Server],
        port: int,
        health_port: int | None,
        health_: _Health,
        runner: Runner,
    ) -> None:
        self.port = port
        self.health_port = health_port
        self._servers = servers
        self._health = health_
        self._runner = runner

    async def stop(self, drain_seconds: float) -> None:
        """Says that it is going, finishes what is running, and ends.

        The order matters: health first, so that nobody new comes; then the streams; the
        transport last, since it would cut them.
        """
        await self._health.set(_NOT_SERVING)
        await self._runner.drain(drain_seconds)
        await self._runner.stop()
        for server in self._servers:
            await server.stop(grace=1.0)

    async def wait(self) -> None:
        """Until the server has stopped."""
        await self._servers[0].wait_for_termination()


class _Health:
    """grpc.health.v1 for the whole server and for the service."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()

    async def set(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", SERVICE):
            await self.servicer.set(name, status)


async def create_server(config: Config) -> App:
    """Loads the artifact and starts to listen.

    Raises:
        ArtifactError: The artifact cannot be served.
        OSError: An address cannot be listened on.
        ConfigError: A file of TLS's or of tokens cannot be used.
    """
    health_ = _Health()
    await health_.set(_NOT_SERVING)
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
    engine = Engine(model, scheduler)
    loop = asyncio.get_running_loop()
    background: set[asyncio.Task[None]] = set()

    def on_death() -> None:
        task = loop.create_task(health_.set(_NOT_SERVING))
        background.add(task)
        task.add_done_callback(background.discard)

    runner = Runner(
        engine,
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
    try:
        server = make_server(config, artifact.vocabulary_size)
        server.add_generic_rpc_handlers((method_handlers(service),))
        health_pb2_grpc.add_HealthServicer_to_server(health_.servicer, server)
        if config.reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        port = add_port(server, config)
        health_server, health_port = _health_only(config, health_)
    except (OSError, ConfigError):
        await runner.stop()
        raise
    servers = [server] if health_server is None else [server, health_server]
    for one in servers:
        await one.start()
    await health_.set(_SERVING)
    _log.info("ready", model=artifact.model_name, precision=artifact.precision, port=port)
    return App(servers, port, health_port, health_, runner)


def _health_only(config: Config, health_: _Health) -> tuple[grpc.aio.Server | None, int | None]:
    """A server that tells of health and nothing else, and its port, if there is to be one."""
    if config.health_listen is None:
        return None, None
    options = (
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", 1024),
        ("grpc.max_concurrent_streams", config.max_streams_per_connection),
        ("grpc.max_allowed_incoming_connections", config.max_connections),
    )
    server = grpc.aio.server(options=options)
    health_pb2_grpc.add_HealthServicer_to_server(health_.servicer, server)
    return server, listen(server, config.health_listen)


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
