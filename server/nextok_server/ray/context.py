"""What a handler sees of a call that reached it through Ray.

Knows: the part of gRPC's context that the service uses, Ray's context. Does not know: the service.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import Message

from nextok_server.ray.ending import Raw

# How long the client's deadline leaves; the proxy adds it, since Ray does not carry deadlines.
TIME_REMAINING: Final = "x-nextok-time-remaining"

_Metadata = Sequence[tuple[str, str | bytes]]


class ReplicaContext:
    """Stands in for grpc.aio.ServicerContext.

    Args:
        ray_context: What Ray tells of the call.

    Attributes:
        messages: What the handler wrote, to be sent on, and None at its end. Ray takes them as they
            come and keeps what a slow client leaves, so they do not pile up here.
    """

    def __init__(self, ray_context: Any) -> None:
        self.messages: asyncio.Queue[Message | Raw | None] = asyncio.Queue()
        self._code = grpc.StatusCode.OK
        self._details = ""
        self._ray = ray_context
        self._metadata = tuple(ray_context.invocation_metadata())
        self._trailing: _Metadata = ()
        self._callbacks: list[Callable[[Any], None]] = []
        remaining = dict(self._metadata).get(TIME_REMAINING)
        self._deadline = None if remaining is None else time.monotonic() + float(remaining)

    def invocation_metadata(self) -> _Metadata:
        """What the client sent along."""
        return self._metadata

    def peer(self) -> str:
        """The client's address, as the proxy saw it."""
        return str(self._ray.peer())

    def auth_context(self) -> dict[str, Sequence[bytes]]:
        """Nothing: Ray's proxy asks for no certificate."""
        return {}

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline; None: it has none."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def code(self) -> grpc.StatusCode:
        """The status that the handler ended with."""
        return self._code

    def set_trailing_metadata(self, metadata: _Metadata) -> None:
        """Sets what goes with the status."""
        self._trailing = tuple(metadata)

    def trailing_metadata(self) -> _Metadata:
        """What goes with the status."""
        return self._trailing

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Has something called when the call is over."""
        self._callbacks.append(callback)

    async def write(self, message: Message | bytes) -> None:
        """Sends a message on, encoded or not."""
        self.messages.put_nowait(Raw(message) if isinstance(message, bytes) else message)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: _Metadata = ()
    ) -> NoReturn:
        """Ends the call with a status.

        Raises:
            grpc.aio.AbortError: Always.
        """
        self._code, self._details = code, details
        self._trailing = tuple(trailing_metadata)
        raise grpc.aio.AbortError(details)

    def finish(self) -> None:
        """Says that the call is over."""
        for callback in self._callbacks:
            callback(self)

    def tell_ray(self) -> None:
        """Hands the status to Ray, to go with the last message."""
        self._ray.set_code(self._code)
        self._ray.set_details(self._details)
        self._ray.set_trailing_metadata(list(self._trailing))
