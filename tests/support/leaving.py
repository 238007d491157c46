"""Clients that leave a stream in the four ways that there are."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

import grpc
from h2.errors import ErrorCodes
from support.h2_client import H2Client, message
from support.proxy import Proxy

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import text_generation_pb2_grpc as pb_grpc


class Leaver:
    """A client of one stream; an async context manager.

    Args:
        address: HOST:PORT of the server.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._stack = AsyncExitStack()

    async def start(self, request: pb.GenerateRequest, seconds: float) -> None:
        """Asks for the stream; how long it takes at most matters to one that has a deadline."""
        channel = await self._stack.enter_async_context(grpc.aio.insecure_channel(self._target()))
        self.call: Any = pb_grpc.TextGenerationServiceStub(channel).Generate(
            request, timeout=self._timeout(seconds)
        )

    def _target(self) -> str:
        return self.address

    def _timeout(self, _seconds: float) -> float | None:
        return None

    async def leave(self) -> None:
        """Leaves it."""
        raise NotImplementedError

    async def __aenter__(self) -> Leaver:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()


class Cancels(Leaver):
    async def leave(self) -> None:
        self.call.cancel()


class IsLate(Leaver):
    """Its deadline passes."""

    def _timeout(self, seconds: float) -> float:
        return seconds

    async def leave(self) -> None:
        assert await self.call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


class IsKilled(Leaver):
    """Its connection is reset, as the kernel does for a process that ended."""

    async def start(self, request: pb.GenerateRequest, seconds: float) -> None:
        self._proxy = await self._stack.enter_async_context(Proxy(self.address))
        await super().start(request, seconds)

    def _target(self) -> str:
        return self._proxy.target

    async def leave(self) -> None:
        self._proxy.kill()


class Resets(Leaver):
    """Resets the stream by a frame of its own, and keeps the connection."""

    async def start(self, request: pb.GenerateRequest, _seconds: float) -> None:
        self._client = await self._stack.enter_async_context(H2Client(self.address))
        self._stream = self._client.call("Generate", message(request.SerializeToString()))
        await self._client.flush()

    async def leave(self) -> None:
        self._client.h2.reset_stream(self._stream, ErrorCodes.CANCEL)
        await self._client.flush()
