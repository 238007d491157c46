"""grpc.health.v1 without its package, which would be one more dependency.

Knows that the request has one field, a string of number 1, and the answer one, an enum of
number 1: the same bytes as those of two well-known types. The contract:
https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

CHECK: Final = "/grpc.health.v1.Health/Check"


class ServingStatus(StrEnum):
    """What grpc.health.v1 tells of a service."""

    UNKNOWN = "UNKNOWN"
    SERVING = "SERVING"
    NOT_SERVING = "NOT_SERVING"
    SERVICE_UNKNOWN = "SERVICE_UNKNOWN"


_STATUSES = {
    1: ServingStatus.SERVING,
    2: ServingStatus.NOT_SERVING,
    3: ServingStatus.SERVICE_UNKNOWN,
}


def serialize_request(service: str) -> bytes:
    """Returns the bytes of a HealthCheckRequest."""
    return StringValue(value=service).SerializeToString()


def parse_response(data: bytes) -> ServingStatus:
    """Reads the bytes of a HealthCheckResponse."""
    return _STATUSES.get(Int32Value.FromString(data).value, ServingStatus.UNKNOWN)
