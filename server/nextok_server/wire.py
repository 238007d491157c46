"""The rpc layer's plumbing: parsing, statuses, request ids.

Knows: gRPC, protobuf's wire format, the table from our errors to statuses. Does not know: what
an rpc does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import empty_pb2, unknown_fields
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from nextok_server import errors

STATUS_OF: dict[type[errors.ServerError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotOffered: grpc.StatusCode.UNIMPLEMENTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    errors.OverLimit: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.QueueFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.QueueTooLong: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineTooShort: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.ReaderTooSlow: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.CallerIdle: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Draining: grpc.StatusCode.UNAVAILABLE,
    errors.EngineFailed: grpc.StatusCode.INTERNAL,
}

REQUEST_ID_KEY = "x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_REQUEST_ID_BYTES = 16  # as a uuid has
_M = TypeVar("_M", bound=Message)


class Malformed:
    """Stands in for a request that could not be parsed, until its handler can say so."""

    def __init__(self, error: errors.InvalidRequest) -> None:
        self.error = error


def parser(message_class: type[_M]) -> Callable[[bytes], _M | Malformed]:
    """A deserializer that turns what it cannot parse into an error of ours.

    gRPC would answer INTERNAL where a deserializer raises, although the fault is the client's.
    """

    def parse(data: bytes) -> _M | Malformed:
        try:
            message = message_class()
            message.ParseFromString(data)
        except DecodeError:
            field = _find_bad_text(data, message_class.DESCRIPTOR)
            if field is not None:
                error = errors.InvalidRequest(field, "is not valid UTF-8")
            else:
                name = message_class.DESCRIPTOR.full_name
                error = errors.InvalidRequest("", f"the request is not a {name}")
            return Malformed(error)
        return message

    return parse


def serialize(message: Message | bytes) -> bytes:
    """A message, unless it is encoded already."""
    return message if isinstance(message, bytes) else message.SerializeToString()


def _find_bad_text(data: bytes, descriptor: Any) -> str | None:
    """The path of the first string field that is not UTF-8, or None."""
    holder = empty_pb2.Empty()
    try:
        holder.ParseFromString(data)
    except DecodeError:
        return None
    entries: Any = unknown_fields.UnknownFieldSet(holder)
    for entry in entries:
        field = descriptor.fields_by_number.get(entry.field_number)
        if field is None or not isinstance(entry.data, bytes):
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            try:
                entry.data.decode()
            except UnicodeDecodeError:
                return str(field.name)
        elif field.message_type is not None:
            below = _find_bad_text(entry.data, field.message_type)
            if below is not None:
                return f"{field.name}.{below}"
    return None


def begin(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Gives an rpc its id, which its trailing metadata will tell, and returns it."""
    chosen = _request_id(context)
    context.set_trailing_metadata(((REQUEST_ID_KEY, chosen),))
    return chosen


def _request_id(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The id that the client sent along, if it is a plain one, or a new one."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return os.urandom(_REQUEST_ID_BYTES).hex()


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: errors.ServerError) -> NoReturn:
    """Ends an rpc with the status that stands for an error, with its details."""
    code = STATUS_OF[type(error)]
    status = status_pb2.Status(code=code.value[0], message=str(error))
    detail: Message | None = None
    if isinstance(error, errors.InvalidRequest):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.description
        )
        detail = error_details_pb2.BadRequest(field_violations=[violation])
    elif isinstance(error, errors.QueueFull | errors.QueueTooLong | errors.OverLimit):
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        detail = error_details_pb2.RetryInfo(retry_delay=delay)
    if detail is not None:
        status.details.add().Pack(detail)
    trailing = (
        *context.trailing_metadata(),
        ("grpc-status-details-bin", status.SerializeToString()),
    )
    await context.abort(code, str(error), trailing)
    raise AssertionError("abort returned")
