"""gRPC's server: its limits, its ports, what stands before every call.

Knows: gRPC's channel arguments, the settings. Does not know: what is served.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator

import grpc
from grpc_health.v1 import health_pb2_grpc

from nextok_server.access import METHODS, Access
from nextok_server.boundary import Boundary
from nextok_server.config import Config, ConfigError
from nextok_server.health import Health
from nextok_server.quotas import Quotas
from nextok_server.reloading import Reloading
from nextok_server.tally import Tally
from nextok_server.tls import server_credentials
from nextok_server.tokens_file import read_tokens
from nextok_server.tracing import Tracing, make_tracing

# Steps with a whole vocabulary that one message holds at most, and some room.
_FULL_STEPS = 20


def make_server(
    config: Config, vocabulary_size: int, tally: Tally, tracing: Tracing | None
) -> grpc.aio.Server:
    """A server with its limits, that knows who calls and counts it; nothing is served yet.

    Raises:
        ConfigError: The file of tokens cannot be used.
    """
    return grpc.aio.server(
        options=_channel_options(config, vocabulary_size),
        interceptors=interceptors(config, tally, tracing),
    )


def interceptors(
    config: Config, tally: Tally, tracing: Tracing | None = None
) -> tuple[grpc.aio.ServerInterceptor, ...]:
    """What stands around every call, who it is, and how much they may have; outermost first.

    Raises:
        ConfigError: The file of tokens cannot be used.
    """
    tokens = None
    if (path := config.tokens_file) is not None:
        with _as_setting("tokens_file"):
            tokens = Reloading("tokens", (path,), functools.partial(read_tokens, path))
    quotas = Quotas(_most_requests(config), config.max_tokens_per_minute)
    return Boundary(tally, METHODS, tracing), Access(tokens), quotas


def open_tracing(config: Config) -> Tracing | None:
    """Traces as the settings say, if they ask for any.

    Raises:
        ConfigError: What it takes is not installed.
    """
    if config.trace_endpoint is None:
        return None
    with _as_setting("trace_endpoint"):
        return make_tracing(config.trace_endpoint)


def _most_requests(config: Config) -> float:
    """Of one caller's. All places are no limit of one's own: the queue has that one."""
    share = config.max_queue_share * (config.slots + config.max_queue)
    most = max(1, int(share)) if config.max_queue_share < 1 else math.inf
    return min(most, config.max_streams_per_caller or most)


def health_only(config: Config, health: Health) -> tuple[grpc.aio.Server | None, int | None]:
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
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    return server, listen(server, config.health_listen)


def add_port(server: grpc.aio.Server, config: Config) -> int:
    """Listens on the address of the settings, with TLS if there is a certificate.

    Returns:
        The port.

    Raises:
        OSError: The address cannot be listened on.
        ConfigError: A file of TLS's cannot be used.
    """
    if config.tls_certificate is None or config.tls_key is None:
        return listen(server, config.listen)
    with _as_setting("tls_certificate, tls_key, tls_client_ca"):
        credentials = server_credentials(
            config.tls_certificate, config.tls_key, config.tls_client_ca
        )
    return listen(server, config.listen, credentials)


def listen(
    server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None = None
) -> int:
    """Listens on an address, in the clear where there are no credentials.

    Returns:
        The port.

    Raises:
        OSError: The address cannot be listened on.
    """
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: {error}") from error


@contextlib.contextmanager
def _as_setting(names: str) -> Iterator[None]:
    """Says which settings a file that cannot be used comes from."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ConfigError(f"{names}: {error}") from error


def _channel_options(config: Config, vocabulary_size: int) -> list[tuple[str, int]]:
    full_steps = _FULL_STEPS * 4 * vocabulary_size
    return [
        ("grpc.max_receive_message_length", config.max_receive_bytes),
        ("grpc.max_send_message_length", max(config.max_send_bytes, full_steps)),
        ("grpc.max_concurrent_streams", config.max_streams_per_connection),
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        # gRPC spreads the age by 10 % either way itself.
        ("grpc.max_connection_age_ms", int(config.max_connection_age * 1000)),
        ("grpc.max_connection_age_grace_ms", int(config.max_connection_grace * 1000)),
        ("grpc.http2.min_ping_interval_without_data_ms", int(config.min_ping_interval * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.so_reuseport", 0),
    ]
