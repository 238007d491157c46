"""A service that listens: its ports, its health, its metrics, its graceful stop.

Knows: gRPC's server, health, the order of stopping. Does not know: what the service is made of.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from nextok_server.assembly import Serving, assemble
from nextok_server.config import Config
from nextok_server.health import SERVICE_NAME as HEALTH
from nextok_server.health import Health, Hindrance
from nextok_server.methods import SERVICE, method_handlers
from nextok_server.metrics import Exposition, Load, MetricsServer
from nextok_server.runner import Runner
from nextok_server.transport import add_port, health_only, make_server, open_tracing
from nextok_server.watchdog import Watchdog

_log = structlog.get_logger(__name__)
# That calls get after all that was to be waited for.
_STOP_SECONDS = 1.0


class App:
    """A running server.

    Attributes:
        port: Where it listens.
        health_port: Where it listens for health alone, if anywhere.
        metrics_port: Where it tells its metrics, if anywhere.
    """

    def __init__(
        self,
        ports: tuple[int, int | None, int | None],
        health: Health,
        runner: Runner,
        cleanup: contextlib.AsyncExitStack,
    ) -> None:
        self.port, self.health_port, self.metrics_port = ports
        self._health = health
        self._runner = runner
        self._cleanup = cleanup

    async def stop(self, drain_seconds: float, delay: float = 0.0) -> None:
        """Says that it is going, finishes what is running, and ends.

        The order matters: health first, so that nobody new comes; then a while in which those who
        have not heard of it are served; then the streams; the transport last, since it would cut
        them.

        Args:
            drain_seconds: That streams get to finish.
            delay: Seconds until new requests are refused.
        """
        self._health.hinder(Hindrance.DRAINING)
        await asyncio.sleep(delay)
        await self._runner.drain(drain_seconds)
        await self._runner.stop()
        await self._cleanup.aclose()


async def create_server(config: Config) -> App:
    """Loads the artifact and starts to listen.

    Raises:
        ArtifactError: The artifact cannot be served.
        OSError: An address cannot be listened on.
        ConfigError: A file of TLS's or of tokens cannot be used.
    """
    health = Health(SERVICE)
    serving = await assemble(config, lambda: health.hinder(Hindrance.ENGINE_DEAD))
    async with contextlib.AsyncExitStack() as cleanup:
        cleanup.push_async_callback(serving.runner.stop)
        tracing = open_tracing(config)
        if tracing is not None:
            cleanup.push_async_callback(asyncio.to_thread, tracing.close)
        vocabulary_size = serving.model_info.vocabulary_size
        server = make_server(config, vocabulary_size, serving.tally, tracing)
        server.add_generic_rpc_handlers((method_handlers(serving.service),))
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        if config.reflection:
            names = (SERVICE, HEALTH, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        port = add_port(server, config)
        health_server, health_port = health_only(config, health)
        metrics_port = _tell_metrics(config, serving, health, cleanup)
        for one in filter(None, (server, health_server)):
            await one.start()
            cleanup.push_async_callback(one.stop, _STOP_SECONDS)
        cleanup.callback(health.close)
        _watch(config, serving, health, cleanup)
        health.clear(Hindrance.LOADING)
        model = serving.model_info
        _log.info("ready", model=model.name, precision=model.precision, port=port)
        return App((port, health_port, metrics_port), health, serving.runner, cleanup.pop_all())


def _watch(
    config: Config, serving: Serving, health: Health, cleanup: contextlib.AsyncExitStack
) -> None:
    """Has the watchdog look after the engine, until the server stops."""

    def on_change(stuck: bool) -> None:
        if stuck:
            serving.tally.stalls += 1
            health.hinder(Hindrance.ENGINE_STUCK)
        else:
            health.clear(Hindrance.ENGINE_STUCK)

    watchdog = Watchdog(serving.runner, config.watchdog_seconds, on_change)
    task = asyncio.create_task(watchdog.watch())
    cleanup.callback(task.cancel)


def _tell_metrics(
    config: Config, serving: Serving, health: Health, cleanup: contextlib.AsyncExitStack
) -> int | None:
    """Serves metrics, if they are asked for; returns the port."""
    if config.metrics_listen is None:
        return None
    model, scheduler = serving.model_info, serving.scheduler
    places = model.limits.slots * model.context_length

    def load() -> Load:
        return Load(
            running=scheduler.running,
            waiting=scheduler.waiting,
            cache_usage=scheduler.held_tokens / places,
            serving=health.is_serving,
        )

    about = {
        "version": model.server_version,
        "onnxruntime_version": model.onnxruntime_version,
        "precision": model.precision,
        "artifact_sha256": model.artifact_sha256,
        "slots": str(model.limits.slots),
        "threads": str(model.threads),
    }
    server = MetricsServer(
        config.metrics_listen, Exposition(serving.tally, load, model.name, about)
    )
    cleanup.push_async_callback(asyncio.to_thread, server.close)
    return server.port
