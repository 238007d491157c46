"""Makes handlers of gRPC's four shapes out of others.

Knows: how gRPC tells the shapes apart. Does not know: what the behaviours do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

Context = grpc.aio.ServicerContext[Any, Any]
# In quotes: generic in its stubs only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"
# Takes the request, or the iterator of requests; answers with its result or with `write`.
Behaviour = Callable[[Any, Context], Awaitable[Any]]

_SHAPES: dict[tuple[bool, bool], tuple[str, Callable[..., Handler]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


def wrapped(handler: Handler, wrap: Callable[[Behaviour], Behaviour]) -> Handler:
    """The same handler with another behaviour around its own, which is a coroutine."""
    _, make = _SHAPES[bool(handler.request_streaming), bool(handler.response_streaming)]
    behaviour = wrap(behaviour_of(handler))
    return make(behaviour, handler.request_deserializer, handler.response_serializer)


class Wrapping:
    """Wraps handlers as `wrapped` does, each method's once, not for every call.

    Only for methods that are served: it remembers each, and callers can invent others without end.

    Args:
        wrap: Makes a behaviour out of another one and the method's full path.
    """

    def __init__(self, wrap: Callable[[Behaviour, str], Behaviour]) -> None:
        self._wrap = wrap
        self._made: dict[str, tuple[Handler, Handler]] = {}

    def __call__(self, handler: Handler, method: str) -> Handler:
        """A method's handler, wrapped."""
        known = self._made.get(method)
        if known is None or known[0] is not handler:
            known = handler, wrapped(handler, lambda behaviour: self._wrap(behaviour, method))
            self._made[method] = known
        return known[1]


def behaviour_of(handler: Handler) -> Behaviour:
    """What a handler does."""
    name, _ = _SHAPES[bool(handler.request_streaming), bool(handler.response_streaming)]
    behaviour: Behaviour = getattr(handler, name)
    return behaviour


def replaced(handler: Handler | None, behaviour: Behaviour) -> Handler:
    """A handler of the same shape that never parses what it gets; of any shape for None."""
    shape = (False, False)
    if handler is not None:
        shape = (bool(handler.request_streaming), bool(handler.response_streaming))
    return _SHAPES[shape][1](behaviour)
