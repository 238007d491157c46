"""What every call passes first and last: its id, its line in the log, its status, its count.

Knows: rpcs by name, our errors. Does not know: who may call, what an rpc does.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any

import grpc
import structlog

from nextok_server import current_call, errors, wire
from nextok_server.access import SERVICE
from nextok_server.handlers import (
    Behaviour,
    Context,
    Continuation,
    Handler,
    Wrapping,
    behaviour_of,
    wrapped,
)
from nextok_server.line_limit import LineLimit
from nextok_server.tally import Tally
from nextok_server.tracing import Tracing

_log = structlog.get_logger(__name__)
# What is counted of rpcs that nobody serves: their names are the callers' invention.
_OTHER = "other"


class Boundary(grpc.aio.ServerInterceptor):
    """Turns errors into statuses; a fault of ours is logged and told without its internals.

    Everything inside raises errors of ours, whoever finds them; this is where they end.

    Args:
        tally: Counts calls.
        methods: Full paths of the rpcs that are served.
        tracing: Has a span around each of them, if any.
    """

    def __init__(
        self, tally: Tally, methods: Collection[str], tracing: Tracing | None = None
    ) -> None:
        self._tally = tally
        self._tracing = tracing
        self._methods = frozenset(methods)
        self._wrapping = Wrapping(self._guarded)
        # A server that is asked for more than it can do has better things to do than write lines.
        self._lines: defaultdict[str, LineLimit] = defaultdict(LineLimit)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Puts itself around the rpc's behaviour, except for generators, as reflection is one."""
        handler = await continuation(handler_call_details)
        if handler is None or inspect.isasyncgenfunction(behaviour_of(handler)):
            return handler
        method = handler_call_details.method
        if method in self._methods:
            return self._wrapping(handler, method)
        return wrapped(handler, lambda behaviour: self._guarded(behaviour, method))

    def _guarded(self, behaviour: Behaviour, method: str) -> Behaviour:
        known = method in self._methods
        rpc = method.rpartition("/")[2] if known else _OTHER

        async def run(request: Any, context: Context) -> Any:
            began = time.monotonic()
            status = grpc.StatusCode.OK
            request_id = wire.begin(context)
            left = context.time_remaining()
            current_call.deadline.set(None if left is None else began + left)
            # Until the call ends, since each has a context of its own.
            structlog.contextvars.bind_contextvars(request_id=request_id, rpc=rpc)
            with self._span(method, context, request_id) as end:
                try:
                    return await self._answer(behaviour, request, context)
                except asyncio.CancelledError:
                    status = _why_cancelled(context)
                    raise
                except grpc.aio.AbortError:
                    status = _STATUSES[context.code()]
                    raise
                finally:
                    end(status)
                    self._tally.note_answered(rpc, status.name, time.monotonic() - began)

        return run

    def _span(
        self, method: str, context: Context, request_id: str
    ) -> contextlib.AbstractContextManager[Callable[[grpc.StatusCode], None]]:
        if self._tracing is None or not method.startswith(SERVICE):
            return contextlib.nullcontext(lambda _status: None)
        return self._tracing.call(method, context.invocation_metadata() or (), request_id)

    async def _answer(self, behaviour: Behaviour, request: Any, context: Context) -> Any:
        try:
            if isinstance(request, wire.Malformed):
                raise request.error
            return await behaviour(request, context)
        except errors.ServerError as error:
            kind = type(error).__name__
            self._tally.refused[kind] += 1
            self._log_refusal(kind, error)
            await wire.abort(context, error)
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception:  # noqa: BLE001 - the boundary: nothing of it may reach the client
            _log.exception("fault")
            request_id = structlog.contextvars.get_contextvars()["request_id"]
            fault = errors.EngineFailed(f"internal fault, in the server's log as {request_id}")
            await wire.abort(context, fault)

    def _log_refusal(self, kind: str, error: errors.ServerError) -> None:
        if isinstance(error, errors.Unauthenticated | errors.Forbidden):
            _log.warning("denied", error=kind, reason=str(error))
        elif (left_out := self._lines[kind].take()) is not None:
            # What is wrong with a request may quote it.
            said = {} if isinstance(error, errors.InvalidRequest) else {"reason": str(error)}
            more = {"left_out": left_out} if left_out else {}
            _log.info("refused", error=kind, **said, **more)


# gRPC tells the status of a call as a number, or as what it was given.
_STATUSES: dict[Any, grpc.StatusCode] = {
    **{status: status for status in grpc.StatusCode},
    **{status.value[0]: status for status in grpc.StatusCode},
}


def _why_cancelled(context: Context) -> grpc.StatusCode:
    left = context.time_remaining()
    late = left is not None and left <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
