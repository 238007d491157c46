"""The deployment: what Ray is told of the service.

Knows: Ray Serve's options, the settings. Does not know: what replicas and proxies do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ray import serve
from ray.serve import Application
from ray.serve.config import RequestRouterConfig, gRPCOptions

from nextok_server import config
from nextok_server.ray.replica import Replica

SERVICES: Final = ("nextok_server.ray.proxy.add_service", "nextok_server.ray.proxy.add_health")
NAME: Final = "nextok"
_ROUTER: Final = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
# Besides what running streams get: for the replica to stop by itself.
_STOP_SECONDS: Final = 10.0
_HEALTH_SECONDS: Final = 2.0


def application(settings: config.Config, *, replicas: int, cpus: float) -> Application:
    """Replicas of one artifact, to give to `serve.run`.

    Args:
        settings: Of each replica. A replica takes in what its slots and its queue have room for.
        replicas: How many.
        cpus: Processors that Ray sets aside for each.

    Raises:
        ConfigError: A setting is about ports, which are Ray's affair.
    """
    for name in ("tls_certificate", "tls_key", "tls_client_ca", "health_listen"):
        if getattr(settings, name) is not None:
            raise config.ConfigError(f"{name}: Ray's proxies listen, and have no such setting")
    deployment = serve.deployment(
        Replica,
        name=NAME,
        num_replicas=replicas,
        max_ongoing_requests=settings.slots + settings.max_queue,
        # Without it the proxy would queue without limit.
        max_queued_requests=settings.max_queue,
        ray_actor_options={"num_cpus": cpus},
        graceful_shutdown_timeout_s=settings.drain_seconds + _STOP_SECONDS,
        health_check_period_s=_HEALTH_SECONDS,
        request_router_config=RequestRouterConfig(request_router_class=_ROUTER),
    )
    bound: Application = deployment.bind(settings.model_dump())
    return bound


def grpc_options(port: int) -> gRPCOptions:
    """What the proxies listen to.

    Args:
        port: On every address of every machine: Ray has no setting for it.
    """
    return gRPCOptions(port=port, grpc_servicer_functions=list(SERVICES), enable_reflection=False)


def build(arguments: dict[str, Any]) -> Application:
    """The application for `serve run` and for Ray's configuration files.

    Args:
        arguments: `artifact`, and by name what else the server can be told; `replicas` and
            `cpus` as in `application`, 1 where they are not given.

    Raises:
        ConfigError: A setting is unknown or out of range.
    """
    replicas, cpus = int(arguments.pop("replicas", 1)), float(arguments.pop("cpus", 1))
    file = arguments.pop("config", None)
    settings, _ = config.load(arguments, None if file is None else Path(file))
    return application(settings, replicas=replicas, cpus=cpus)
