"""What a server says of its health, all of it, as long as somebody looks."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
# The server looks at its engine every 0.05 s: what is told of a moment is told by then.
_SECONDS_UNTIL_TOLD = 0.5


class WatchedHealth:
    """A watch of a server's health; an async context manager.

    Args:
        channel: To the server.

    Attributes:
        told: Each status that was told, in order; the first is what was so at the beginning.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.told: list[int] = []
        stub: Any = health_pb2_grpc.HealthStub(channel)
        self._call = stub.Watch(health_pb2.HealthCheckRequest())

    async def _read(self) -> None:
        while (message := await self._call.read()) is not grpc.aio.EOF:
            self.told.append(message.status)

    async def __aenter__(self) -> WatchedHealth:
        self.told.append((await self._call.read()).status)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.wait([self._reading], timeout=_SECONDS_UNTIL_TOLD)
        self._call.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
