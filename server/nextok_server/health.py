"""grpc.health.v1: whether the server can be asked for anything, told at once.

Knows: the reasons that keep it from serving, who watches. Does not know: where they come from.
"""

from __future__ import annotations

import asyncio
import enum
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

_log = structlog.get_logger(__name__)
_Response = health_pb2.HealthCheckResponse
SERVICE_NAME = "grpc.health.v1.Health"
Context = grpc.aio.ServicerContext[Any, Any]


class Hindrance(enum.Enum):
    """What keeps a server from serving."""

    LOADING = "loading"
    DRAINING = "draining"
    ENGINE_DEAD = "engine_dead"
    ENGINE_STUCK = "engine_stuck"


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # its package has no types
    """Answers for the whole server, "", and for services by name, which share one status.

    grpcio-health-checking's own servicer forgets all who watch when one of them leaves, and waits
    for the slowest of them when the status changes.

    Args:
        services: Full names.
    """

    def __init__(self, *services: str) -> None:
        self._services = ("", *services)
        self._hindrances = {Hindrance.LOADING}
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def is_serving(self) -> bool:
        """Whether nothing keeps the server from serving."""
        return not self._hindrances

    def hinder(self, reason: Hindrance) -> None:
        """Says that something keeps the server from serving."""
        self._change(self._hindrances | {reason})

    def clear(self, reason: Hindrance) -> None:
        """Says that it does not any more."""
        self._change(self._hindrances - {reason})

    def close(self) -> None:
        """Ends all watches, after they told the last status."""
        self._closed = True
        self._wake()

    async def Check(  # noqa: N802 - the contract's name
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """The status now."""
        if request.service not in self._services:
            details = f"{request.service!r} is not served here"
            await context.abort(grpc.StatusCode.NOT_FOUND, details)
        return _Response(status=self._status(request.service))

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> None:
        """The status now, and again whenever it changes."""
        told = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != told:
                await context.write(_Response(status=status))
                told = status
            if self._closed:
                return
            await changed.wait()

    def _status(self, service: str) -> health_pb2.HealthCheckResponse.ServingStatus:
        if service not in self._services:
            return _Response.SERVICE_UNKNOWN
        return _Response.SERVING if self.is_serving else _Response.NOT_SERVING

    def _change(self, hindrances: set[Hindrance]) -> None:
        if hindrances != self._hindrances:
            self._hindrances = hindrances
            reasons = sorted(reason.value for reason in hindrances)
            _log.info("health", serving=self.is_serving, hindered_by=reasons)
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
