"""The errors that a call can end with, and the one map from gRPC statuses to them.

    NextokError
    ├── ArtifactChanged      a stream broke, and the server that is there now has another model
    ├── Cancelled            the call was given up, here or by the server
    ├── DeadlineExceeded     the timeout passed before the call ended
    ├── FailedPrecondition   the server is not in a state to do it
    ├── Internal             the server failed, or what it sent makes no sense
    ├── InvalidArgument      the request was refused; .violations name the fields
    ├── NotFound             there is nothing of that name
    ├── PermissionDenied     the caller may not do this
    ├── ResourceExhausted    the server is full, or the message too large; .retry_after
    ├── Unauthenticated      the caller did not say who it is, or not so that it was believed
    ├── Unavailable          the server cannot be reached, or is going away; .retry_after
    ├── UnexpectedStatus     a status that nextok's servers do not send
    └── Unimplemented        the server does not have this call

Knows the statuses of gRPC. Does not know which call failed, nor whether trying again is wise.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import grpc

from nextok.status_details import StatusDetails, Violation, read_status_details

_DETAILS_KEY: Final = "grpc-status-details-bin"
_REQUEST_ID_KEY: Final = "x-request-id"


class NextokError(Exception):
    """A call that did not end well; the root of all of them.

    Attributes:
        code: The gRPC status.
        details: What the server, or gRPC itself, said about it.
        request_id: The name under which the server logged it, if it told.
        retry_after: Seconds after which trying again can help, if the server told.
        violations: The fields of the request that were refused, if the server named them.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        details: str = "",
        *,
        request_id: str | None = None,
        retry_after: float | None = None,
        violations: tuple[Violation, ...] = (),
    ) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details
        self.request_id = request_id
        self.retry_after = retry_after
        self.violations = violations

    def __str__(self) -> str:
        text = f"{self.code.name}: {self.details}" if self.details else self.code.name
        # A server that put the field into its text already is not repeated.
        for violation in self.violations:
            if violation.description not in self.details or violation.field not in self.details:
                text += f"\n  {violation.field}: {violation.description}"
        if self.request_id is not None:
            text += f" (request {self.request_id})"
        return text


class ArtifactChanged(NextokError):
    """A stream broke, and the server that is there now has another model; nothing was joined."""


class Cancelled(NextokError):
    """The call was given up, here or by the server."""


class DeadlineExceeded(NextokError):
    """The timeout passed before the call ended."""


class FailedPrecondition(NextokError):
    """The server is not in a state to do what was asked."""


class Internal(NextokError):
    """The server failed, or what it sent makes no sense."""


class InvalidArgument(NextokError):
    """The request was refused; `violations` name the fields."""


class NotFound(NextokError):
    """There is nothing of that name."""


class PermissionDenied(NextokError):
    """The caller may not do this."""


class ResourceExhausted(NextokError):
    """The server is full, or the message too large; `retry_after` where waiting helps."""


class Unauthenticated(NextokError):
    """The caller did not say who it is, or not so that it was believed."""


class Unavailable(NextokError):
    """The server cannot be reached, or is going away."""


class UnexpectedStatus(NextokError):
    """A status that nextok's servers do not send; something between may have."""


class Unimplemented(NextokError):
    """The server does not have this call."""


# OK is not an error, and not here; the test of this map counts every other status.
STATUS_ERRORS: Final[Mapping[grpc.StatusCode, type[NextokError]]] = MappingProxyType(
    {
        grpc.StatusCode.CANCELLED: Cancelled,
        grpc.StatusCode.UNKNOWN: UnexpectedStatus,
        grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
        grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
        grpc.StatusCode.NOT_FOUND: NotFound,
        grpc.StatusCode.ALREADY_EXISTS: UnexpectedStatus,
        grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
        grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
        grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
        grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
        grpc.StatusCode.ABORTED: UnexpectedStatus,
        grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
        grpc.StatusCode.INTERNAL: Internal,
        grpc.StatusCode.UNAVAILABLE: Unavailable,
        grpc.StatusCode.DATA_LOSS: Internal,
        grpc.StatusCode.OUT_OF_RANGE: UnexpectedStatus,
    }
)


def error_from_rpc(error: grpc.RpcError) -> NextokError:
    """Returns our error for one of grpc's, sync or asyncio.

    Args:
        error: What grpc raised. Its status, text and trailing metadata are read.
    """
    # grpc's own error type promises nothing; what is raised for a call has these methods.
    call: Any = error
    code = call.code()
    metadata = dict(call.trailing_metadata() or ())
    try:
        details = read_status_details(metadata.get(_DETAILS_KEY, b""))
    except ValueError:
        # Details come from outside; broken ones must not hide the status they came with.
        details = StatusDetails()
    return STATUS_ERRORS.get(code, UnexpectedStatus)(
        code,
        call.details() or "",
        request_id=details.request_id or metadata.get(_REQUEST_ID_KEY),
        retry_after=details.retry_after,
        violations=details.violations,
    )
