"""What a request is answered where it cannot be done: OpenAI's error object, with a status.

Knows the errors of the client and the names that fields have at this door. Does not know the
routes. One shape for the page and for OpenAI's clients, which read it already.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from nextok.errors import (
    ArtifactChanged,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NextokError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    UnexpectedStatus,
    Unimplemented,
)

_RETRY_SECONDS: Final = 1.0  # where the server does not say
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class Refusal(Exception):
    """Why a request is not done.

    Attributes:
        status: Of HTTP.
        message: For people.
        param: The field of the request, if it is one's fault.
        code: For programs, where OpenAI has a name for it.
        headers: To send along.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers

    @property
    def body(self) -> dict[str, Any]:
        """The error object."""
        kind = _KINDS.get(self.status)
        if kind is None:
            kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }


def bad_value(param: str, message: str) -> Refusal:
    """A value that cannot be; the message says what it is and what it may be."""
    return Refusal(400, f"{param} {message}", param)


_KINDS: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

# That the nextok server does not take this door's own token is not the caller's fault.
_STATUSES: Final[Mapping[type[NextokError], int]] = MappingProxyType(
    {
        ArtifactChanged: 503,
        Cancelled: 499,
        DeadlineExceeded: 504,
        FailedPrecondition: 503,
        Internal: 500,
        InvalidArgument: 400,
        NotFound: 404,
        PermissionDenied: 502,
        ResourceExhausted: 429,
        Unauthenticated: 502,
        Unavailable: 503,
        UnexpectedStatus: 502,
        Unimplemented: 501,
    }
)

# Fields of the wire that have another name here.
_PARAMS: Final = {"top_logprobs": "logprobs", "token_ids": "logprobs"}


def refusal_of(error: NextokError) -> Refusal:
    """What an error of the nextok server is at this door."""
    status = _STATUSES[type(error)]
    headers = {}
    if status in (429, 503):
        seconds = _RETRY_SECONDS if error.retry_after is None else error.retry_after
        # Whole seconds for everyone, and the form that OpenAI's clients prefer.
        headers = {
            "Retry-After": str(max(1, math.ceil(seconds))),
            "Retry-After-Ms": str(max(1, math.ceil(seconds * 1000))),
        }
    if error.request_id is not None:
        headers["X-Request-Id"] = error.request_id
    if not error.violations:
        return Refusal(status, error.details or error.code.name, headers=headers)
    violation = error.violations[0]
    param = _param(violation.field)
    return Refusal(status, f"{param} {violation.description}", param, headers=headers)


def _param(path: str) -> str:
    """A field's name here: the last part of its path that is not a place in a list."""
    if path.startswith("prompt"):
        return "prompt"
    name = re.sub(r"\[.*", "", path.rpartition(".")[2])
    return _PARAMS.get(name, name)
