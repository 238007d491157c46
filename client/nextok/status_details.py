"""Reads google.rpc.Status as it stands in a call's trailing metadata.

Knows the field numbers of the few messages of google.rpc that nextok's servers attach:
https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto. They are
read without their generated code, which would be one more dependency. Does not know gRPC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

_LENGTH_DELIMITED = 2


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that was refused.

    Attributes:
        field: The field's path in the request, as in `sampling.temperature`.
        description: What is wrong with it.
    """

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class StatusDetails:
    """What a status tells besides its code and text.

    Attributes:
        violations: From google.rpc.BadRequest.
        retry_after: Seconds, from google.rpc.RetryInfo.
        request_id: From google.rpc.RequestInfo.
    """

    violations: tuple[Violation, ...] = ()
    retry_after: float | None = None
    request_id: str | None = None


def read_status_details(data: bytes) -> StatusDetails:
    """Reads the details of a serialized google.rpc.Status; b"" has none.

    Raises:
        ValueError: The bytes are not such a message.
    """
    violations: tuple[Violation, ...] = ()
    retry_after = request_id = None
    try:
        for number, value in _fields(data):
            if number != 3:  # Status.details
                continue
            detail = Any.FromString(value)
            match detail.type_url.rpartition("/")[2]:
                case "google.rpc.BadRequest":
                    violations += tuple(map(_violation, _submessages(detail.value, 1)))
                case "google.rpc.RetryInfo":
                    for delay in _submessages(detail.value, 1):
                        duration = Duration.FromString(delay)
                        retry_after = duration.seconds + duration.nanos / 1e9
                case "google.rpc.RequestInfo":
                    for text in _submessages(detail.value, 1):
                        request_id = text.decode()
    except (DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not a google.rpc.Status: {error}") from error
    return StatusDetails(violations, retry_after, request_id)


def _violation(data: bytes) -> Violation:
    texts = {number: value.decode() for number, value in _fields(data)}
    return Violation(field=texts.get(1, ""), description=texts.get(2, ""))


def _submessages(data: bytes, number: int) -> Iterator[bytes]:
    return (value for field, value in _fields(data) if field == number)


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the number and content of every string, bytes and message field."""
    # To a message that has no fields, all fields are unknown ones.
    fields = UnknownFieldSet(Empty.FromString(data))
    for field in [fields[i] for i in range(len(fields))]:
        if field.wire_type == _LENGTH_DELIMITED:
            yield field.field_number, field.data
