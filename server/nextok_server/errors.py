"""The server's errors.

    ServerError
    +-- ArtifactError        the artifact is damaged, incomplete or of another schema
    +-- InvalidRequest       a field is out of range; names field, value and range
    +-- NotOffered           the contract has it, this server does not
    +-- Unauthenticated      the caller did not say who it is, or not so that it is believed
    +-- Forbidden            the caller may not do this
    +-- OverLimit            the caller has more than its share; says when to try again
    +-- QueueFull            no room to wait; says when to try again
    +-- QueueTooLong         those who wait before it would make it late; says when to try again
    +-- DeadlineTooShort     it takes longer than it is given
    +-- Draining             the server is going away
    +-- ReaderTooSlow        the client does not read what it asked for
    +-- CallerIdle           the client asks for nothing
    +-- EngineFailed         a fault of ours

Knows nothing of gRPC: `service` has the table from these to statuses.
"""

from __future__ import annotations


class ServerError(Exception):
    """Any error that the server raises on purpose."""


class ArtifactError(ServerError):
    """The artifact cannot be served."""


class InvalidRequest(ServerError):
    """A request asks for something out of range.

    Attributes:
        field: Path of the field, with the names of the wire contract.
        description: What is wrong with it: the value and the range.
    """

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


class NotOffered(ServerError):
    """A part of the contract that this server does not have."""


class Unauthenticated(ServerError):
    """The caller did not say who it is, or not so that it is believed."""


class Forbidden(ServerError):
    """The caller may not do this."""


class OverLimit(ServerError):
    """The caller has as much as one may have.

    Attributes:
        retry_after: Seconds after which trying again is worthwhile.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QueueFull(ServerError):
    """All slots are taken and the queue is full.

    Attributes:
        retry_after: Seconds after which trying again is worthwhile.
    """

    def __init__(self, waiting: int, retry_after: float) -> None:
        super().__init__(f"the queue is full: {waiting} requests are waiting")
        self.retry_after = retry_after


class QueueTooLong(ServerError):
    """A request would not make its deadline, because of those who wait before it.

    Attributes:
        retry_after: Seconds after which trying again is worthwhile.
    """

    def __init__(self, wait: float, left: float, retry_after: float) -> None:
        super().__init__(
            f"the deadline in {left:.3g} s cannot be met: the queue takes about {wait:.3g} s"
        )
        self.retry_after = retry_after


class DeadlineTooShort(ServerError):
    """A request would not make its deadline even if nobody waited before it."""

    def __init__(self, run: float, left: float) -> None:
        super().__init__(
            f"the deadline in {left:.3g} s cannot be met: the tokens asked for take "
            f"about {run:.3g} s"
        )


class Draining(ServerError):
    """The server finishes what it has and takes nothing new."""


class ReaderTooSlow(ServerError):
    """A client did not read for longer than the limit."""


class CallerIdle(ServerError):
    """A client asked for nothing for longer than the limit."""


class EngineFailed(ServerError):
    """The engine stopped on a fault; the log has it under the request's id."""
