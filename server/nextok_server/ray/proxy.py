"""What Ray's gRPC proxies do with a call besides passing it on.

Ray's proxy replaces the behaviours of the handlers that it is given by its own. They are given to
it here and then wrapped once more, so that a call goes to the replica which knows its prompt, ends
with the status and the details that the replica gave it, and can be gone on with where a replica
died. Messages pass through unparsed.

Knows: how Ray takes handlers, which of its statuses mean what. Does not know: what an rpc does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2_grpc

from nextok.v1 import text_generation_pb2_grpc
from nextok_server.ray.affinity import session_id
from nextok_server.ray.context import TIME_REMAINING
from nextok_server.ray.ending import ENDING

# What Ray reads from a call's metadata to choose a replica.
_SESSION_KEY: Final = "session_id"
# Statuses of Ray's own, with a text of ours: its texts hold its exceptions. Whatever else goes
# wrong between proxy and replica, the next attempt finds another replica.
_TEXTS: Final = {
    grpc.StatusCode.NOT_FOUND: "nothing is deployed here",
    grpc.StatusCode.DEADLINE_EXCEEDED: "the proxy's time limit passed",
    grpc.StatusCode.CANCELLED: "the call was cancelled",
}
_LOST: Final = "the replica was lost or cannot be reached"
_BUSY: Final = "all replicas are busy and the queue is full"
_RETRY_SECONDS: Final = 1


def add_service(servicer: Any, server: Any) -> None:
    """Adds nextok's service to one of Ray's proxies; named in its `grpc_servicer_functions`."""
    text_generation_pb2_grpc.add_TextGenerationServiceServicer_to_server(  # type: ignore[no-untyped-call]
        servicer, _Wrapping(server)
    )


def add_health(servicer: Any, server: Any) -> None:
    """Adds grpc.health.v1: a proxy is healthy where some replica answers."""
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)


class _Wrapping:
    """Takes handlers in a proxy's place, and wraps what the proxy makes of them."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: tuple[Any, ...]) -> None:
        self._server.add_generic_rpc_handlers(handlers)
        for generic in handlers:
            # Ray has put its own handlers there; they are looked up at every call.
            generic._method_handlers = {
                path: _wrapped(path.rpartition("/")[2], handler)
                for path, handler in generic._method_handlers.items()
            }

    def add_registered_method_handlers(self, *_: object) -> None:
        """The same handlers again, for another kind of server than asyncio's."""


def _wrapped(method: str, handler: Any) -> Any:
    """A handler that takes and gives bytes, around Ray's."""

    async def unary(request: bytes, context: Any) -> bytes:
        call = _Call(method, request, context)
        answer: bytes = await handler.unary_unary(request, call)
        is_told = answer == ENDING or call.code() in (None, grpc.StatusCode.OK)
        await call.end(is_told=is_told)
        return answer

    async def streaming(request: Any, context: Any) -> None:
        call = _Call(method, request, context)
        answers: asyncio.Queue[bytes | None] = asyncio.Queue()
        # A task of its own, which never waits but inside Ray's generator: that generator cannot
        # be closed, only cancelled, and where it is neither, its replica goes on computing.
        pump = asyncio.create_task(_pump(pass_on(request, call), answers))
        try:
            while (answer := await answers.get()) is not None and answer != ENDING:
                await context.write(answer)
            await pump
        finally:
            pump.cancel()
        await call.end(is_told=answer == ENDING)

    pass_on = handler.stream_stream if handler.request_streaming else handler.unary_stream
    changes: dict[str, Any] = {"request_deserializer": None, "response_serializer": None}
    if not handler.response_streaming:
        return handler._replace(unary_unary=unary, **changes)
    shape = "stream_stream" if handler.request_streaming else "unary_stream"
    return handler._replace(**{shape: streaming}, **changes)


async def _pump(source: AsyncIterator[bytes], answers: asyncio.Queue[bytes | None]) -> None:
    """Takes what Ray gives as it comes. It holds as much itself where nobody takes it."""
    try:
        async for answer in source:
            answers.put_nowait(answer)
    finally:
        answers.put_nowait(None)


class _Call:
    """A call's context as Ray sees it: knows the prompt's name, and keeps the status for later."""

    def __init__(self, method: str, request: Any, context: Any) -> None:
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: tuple[tuple[str, str | bytes], ...] = ()
        self._context = context
        self._metadata = list(context.invocation_metadata() or ())
        name = session_id(method, request) if isinstance(request, bytes) else None
        if name is not None and _SESSION_KEY not in dict(self._metadata):
            self._metadata.append((_SESSION_KEY, name))
        if (seconds := context.time_remaining()) is not None:
            self._metadata.append((TIME_REMAINING, f"{seconds:.6f}"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        return self._metadata

    def code(self) -> grpc.StatusCode | None:
        return self._code

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def details(self) -> str:
        return self._details

    def set_details(self, details: str) -> None:
        self._details = details

    def set_trailing_metadata(self, metadata: Any) -> None:
        self._trailing = tuple(metadata)

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._trailing

    async def end(self, *, is_told: bool) -> None:
        """Ends the call as the replica said, or, where it said nothing, as Ray did."""
        if not is_told:
            await self._end_for_ray()
        if self._code in (None, grpc.StatusCode.OK):
            self._context.set_trailing_metadata(self._trailing)
            return
        await self._context.abort(self._code, self._details, self._trailing)

    async def _end_for_ray(self) -> NoReturn:
        if self._code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            status = status_pb2.Status(code=self._code.value[0], message=_BUSY)
            packed = AnyMessage()
            packed.Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=_RETRY_SECONDS)))
            status.details.append(packed)
            details = ("grpc-status-details-bin", status.SerializeToString())
            await self._context.abort(self._code, _BUSY, (details,))
        code = self._code if self._code in _TEXTS else grpc.StatusCode.UNAVAILABLE
        await self._context.abort(code, _TEXTS.get(code, _LOST))
        raise AssertionError("abort returned")
