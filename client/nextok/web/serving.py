"""Serving the application: sockets, TLS, and how it ends.

Knows uvicorn. Does not know what is served.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvicorn

from nextok.async_client import AsyncClient
from nextok.web import exposure
from nextok.web.app import create_app

_STOP_SECONDS: Final = 3  # that running streams get when the server is told to stop
_MAX_CONNECTIONS: Final = 512
_BACKLOG: Final = 128


@dataclass(frozen=True, slots=True)
class Listening:
    """Where to serve, and for whom.

    Attributes:
        address: HOST:PORT; port 0 picks a free one.
        keys: Of those who may ask; none: everyone who reaches it.
        certificate: File of the certificate chain, PEM. With `key`: TLS.
        key: File of its key, PEM.
        insecure: Whether other machines may be served without TLS and keys.

    Raises:
        ValueError: It would be open to others by mistake.
    """

    address: str
    keys: tuple[str, ...] = field(default=(), repr=False)
    certificate: Path | None = None
    key: Path | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        exposure.check(
            exposure.split_address(self.address)[0],
            certificate=self.certificate is not None,
            key=self.key is not None,
            keys=bool(self.keys),
            insecure=self.insecure,
        )

    @property
    def host(self) -> str:
        """The host of the address."""
        return exposure.split_address(self.address)[0]

    def bind(self) -> socket.socket:
        """Opens the socket; from now on, clients that connect wait.

        Raises:
            OSError: The address cannot be listened on.
        """
        host, port = exposure.split_address(self.address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)

    def url(self, bound: socket.socket) -> str:
        """The page's address."""
        scheme = "http" if self.certificate is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{bound.getsockname()[1]}/"


async def serve(
    client: AsyncClient,
    listening: Listening,
    *,
    ready: Callable[[str], None],
    log_level: str = "warning",
) -> None:
    """Serves until a signal says to stop, or the task is cancelled.

    Args:
        client: Of the nextok server.
        listening: Where, and for whom.
        ready: Called with the page's address once it can be opened.
        log_level: Least level of what is logged.

    Raises:
        OSError: The address cannot be listened on, or a file cannot be read.
    """
    app = create_app(client, keys=listening.keys, loopback=exposure.is_loopback(listening.host))
    config = uvicorn.Config(
        app,
        access_log=False,
        http="h11",
        lifespan="off",
        limit_concurrency=_MAX_CONNECTIONS,
        log_level=log_level,
        loop="asyncio",
        proxy_headers=False,
        server_header=False,
        ssl_certfile=listening.certificate,
        ssl_keyfile=listening.key,
        timeout_graceful_shutdown=_STOP_SECONDS,
        ws="none",
    )
    config.load()  # reads the files of TLS
    with listening.bind() as bound:
        ready(listening.url(bound))
        server = uvicorn.Server(config)
        try:
            await server.serve(sockets=[bound])
        except asyncio.CancelledError:
            await server.shutdown(sockets=[bound])
            raise
