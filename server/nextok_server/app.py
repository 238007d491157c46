"""A service that listens: its ports, its health, its graceful stop.

Knows: gRPC's server, health, the order of stopping. Does not know: what the service is made of.
"""

from __future__ import annotations

import asyncio

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from nextok_server.assembly import assemble
from nextok_server.config import Config, ConfigError
from nextok_server.runner import Runner
from nextok_server.service import SERVICE, method_handlers
from nextok_server.transport import add_port, listen, make_server

_log = structlog.get_logger(__name__)

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
    loop = asyncio.get_running_loop()
    background: set[asyncio.Task[None]] = set()

    def on_death() -> None:
        task = loop.create_task(health_.set(_NOT_SERVING))
        background.add(task)
        task.add_done_callback(background.discard)

    serving = await assemble(config, on_death)
    try:
        server = make_server(config, serving.vocabulary_size)
        server.add_generic_rpc_handlers((method_handlers(serving.service),))
        health_pb2_grpc.add_HealthServicer_to_server(health_.servicer, server)
        if config.reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        port = add_port(server, config)
        health_server, health_port = _health_only(config, health_)
    except (OSError, ConfigError):
        await serving.runner.stop()
        raise
    servers = [server] if health_server is None else [server, health_server]
    for one in servers:
        await one.start()
    await health_.set(_SERVING)
    _log.info("ready", model=serving.model_name, precision=serving.precision, port=port)
    return App(servers, port, health_port, health_, serving.runner)


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
