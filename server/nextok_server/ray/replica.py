"""One replica: the whole service with its engine, called by Ray instead of by gRPC.

Knows: the service's handlers and what stands before them, Ray's way of calling. Does not know:
what an rpc does, where the proxy is.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, cast

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from nextok.v1 import text_generation_pb2 as pb
from nextok_server.assembly import assemble
from nextok_server.config import Config
from nextok_server.handlers import Handler, behaviour_of
from nextok_server.methods import SERVICE, method_handlers
from nextok_server.ray.context import ReplicaContext
from nextok_server.ray.ending import ENDING, Raw
from nextok_server.transport import interceptors

_SERVING = health_pb2.HealthCheckResponse.SERVING


class Replica:
    """The methods that Ray calls are named after the rpcs; see `_add_methods`.

    Args:
        settings: Of the server, by name; its addresses are Ray's affair.
    """

    # Ray waits for it.
    async def __init__(self, settings: dict[str, Any]) -> None:  # type: ignore[misc]
        self._config = Config(**settings)
        self._dead = False
        self._serving = await assemble(self._config, self._die)
        self._interceptors = interceptors(self._config, self._serving.tally)
        self._handlers = method_handlers(self._serving.service)

    def check_health(self) -> None:
        """Tells Ray to replace the replica once its engine has stopped.

        Raises:
            RuntimeError: It has.
        """
        if self._dead:
            raise RuntimeError("the engine stopped on a fault")

    async def __del__(self) -> None:
        """Finishes what is running; Ray has sent nothing new for a while."""
        await self._serving.runner.drain(self._config.drain_seconds)
        await self._serving.runner.stop()

    async def Check(self, _request: bytes) -> health_pb2.HealthCheckResponse:  # noqa: N802
        """grpc.health.v1: a replica that can be asked is one that serves."""
        return health_pb2.HealthCheckResponse(status=_SERVING)

    def _die(self) -> None:
        self._dead = True

    async def messages(
        self, method: str, request: Any, ray_context: Any
    ) -> AsyncGenerator[Message | Raw, None]:
        """What an rpc answers, and the mark that ends it.

        Args:
            method: The rpc's name.
            request: The message's bytes, or an iterator of such.
            ray_context: What Ray tells of the call.
        """
        context = ReplicaContext(ray_context)
        running = asyncio.create_task(self._run(method, request, context))
        running.add_done_callback(lambda _: context.messages.put_nowait(None))
        try:
            while (message := await context.messages.get()) is not None:
                yield message
            answer = await running
        finally:
            running.cancel()
            context.finish()
        if answer is not None:
            yield answer
        context.tell_ray()
        yield Raw(ENDING)

    async def _run(self, method: str, request: Any, context: ReplicaContext) -> Message | None:
        """Runs a handler with all that stands before it; returns the answer of a unary rpc."""
        handler = await self._handler(method, context)
        parse = handler.request_deserializer or bytes  # a handler that refuses reads nothing
        given: Any
        if handler.request_streaming:
            given = _parsed(_only(request) if isinstance(request, bytes) else request, parse)
        else:
            given = parse(request)
        try:
            # It asks no more of a context than this one can answer.
            answer: Message | None = await behaviour_of(handler)(given, cast(Any, context))
        except grpc.aio.AbortError:
            return None
        return answer

    async def _handler(self, method: str, context: ReplicaContext) -> Handler:
        """Asks the interceptors, outermost first, for what is to handle a call."""
        found = self._find
        for interceptor in reversed(self._interceptors):
            found = functools.partial(interceptor.intercept_service, found)
        details: Any = _Details(f"/{SERVICE}/{method}", context.invocation_metadata())
        handler = await found(details)
        assert handler is not None, "Ray calls no other rpcs than the contract's"
        return handler

    async def _find(self, details: Any) -> Handler | None:
        return self._handlers.service(details)


@dataclass(frozen=True)
class _Details:
    """Stands in for grpc.HandlerCallDetails."""

    method: str
    invocation_metadata: Any


async def _only(request: bytes) -> AsyncIterator[bytes]:
    """The requests of a call that has one."""
    yield request


async def _parsed(requests: Any, parse: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield parse(request)


def _add_methods() -> None:
    """Gives the class a method for each rpc, in the shape that Ray calls it in."""
    for method in pb.DESCRIPTOR.services_by_name["TextGenerationService"].methods:
        make = _streaming if method.server_streaming else _unary
        setattr(Replica, method.name, make(method.name))


def _streaming(name: str) -> Any:
    async def call(self: Replica, request: Any, grpc_context: Any) -> AsyncIterator[Any]:
        async with contextlib.aclosing(self.messages(name, request, grpc_context)) as messages:
            async for message in messages:
                yield message

    return call


def _unary(name: str) -> Any:
    async def call(self: Replica, request: Any, grpc_context: Any) -> Message | Raw:
        messages = [message async for message in self.messages(name, request, grpc_context)]
        return messages[0]

    return call


_add_methods()
