"""The rpcs, as gRPC is to call them.

Knows: the contract's methods, what is read of a call and when. Does not know: what an rpc does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from nextok.v1 import text_generation_pb2 as pb
from nextok_server import wire
from nextok_server.errors import InvalidRequest
from nextok_server.handlers import Behaviour, Context
from nextok_server.service import Service

SERVICE = "nextok.v1.TextGenerationService"


def method_handlers(service: Service) -> grpc.GenericRpcHandler:
    """The service's handlers, with deserializers that report malformed requests themselves."""
    descriptor = pb.DESCRIPTOR.services_by_name["TextGenerationService"]
    handlers = {}
    for method in descriptor.methods:
        behaviour = getattr(service, method.name)
        if method.server_streaming:
            make = grpc.stream_stream_rpc_method_handler
            if not method.client_streaming:
                behaviour = _with_one_request(behaviour, service.check)
        else:
            make = grpc.unary_unary_rpc_method_handler
        handlers[method.name] = make(
            behaviour,
            request_deserializer=wire.parser(GetMessageClass(method.input_type)),
            response_serializer=wire.serialize,
        )
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


def _with_one_request(behaviour: Behaviour, check: Callable[[], None]) -> Behaviour:
    """Reads a call's one request, unless the call would be refused whatever it asks for.

    gRPC would read it first, for which the event loop wakes up once more. Under a load of which
    most is refused, that costs those who are served.
    """

    async def run(requests: AsyncIterator[Any], context: Context) -> None:
        check()
        try:
            request = await anext(requests)
        except StopAsyncIteration:
            raise InvalidRequest("", "the call has no request") from None
        if isinstance(request, wire.Malformed):
            raise request.error
        await behaviour(request, context)

    return run
