"""A client that says in HTTP/2 whatever it likes, one connection at a time."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from types import TracebackType

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from hyperframe.frame import Frame

METHOD = "/nextok.v1.TextGenerationService/"


def message(data: bytes, *, length: int | None = None, compressed: int = 0) -> bytes:
    """A message with gRPC's prefix, which may lie."""
    return struct.pack(">BI", compressed, len(data) if length is None else length) + data


class H2Client:
    """One connection, made by hand; an async context manager.

    Attributes:
        events: What came, for those who look at it.
        closed: Whether the server has ended the connection.
    """

    def __init__(self, address: str) -> None:
        self.events: list[h2.events.Event] = []
        self.closed = False
        self._address = address
        self._changed = asyncio.Event()
        config = h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)

    def headers(self, rpc: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
        return [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", METHOD + rpc),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *more,
        ]

    def call(self, rpc: str, body: bytes, *more: tuple[str, str], end: bool = True) -> int:
        """Starts an rpc, whose request is sent as it is; returns its stream."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, self.headers(rpc, *more))
        self.h2.send_data(stream, body, end_stream=end)
        return stream

    def frame(self, frame: Frame) -> None:
        """Sends a frame that the state of the connection may not allow."""
        self.raw(frame.serialize())

    def raw(self, data: bytes) -> None:
        """Sends bytes behind what is waiting to be sent, unless the connection is closed."""
        data = self.h2.data_to_send() + data
        if not self.closed and not self._writer.is_closing():
            self._writer.write(data)

    async def flush(self) -> None:
        """Sends what is waiting, as far as the server takes it."""
        self.raw(b"")
        try:
            async with asyncio.timeout(5):
                await self._writer.drain()
        except (OSError, TimeoutError):
            pass  # it does not listen any more

    async def wait_for(
        self, kind: type[h2.events.Event] | tuple[type[h2.events.Event], ...], stream: int
    ) -> bool:
        """Waits for an event of a stream; False where the connection is closed before."""

        def there() -> bool:
            return any(
                isinstance(event, kind) and event.stream_id == stream for event in self.events
            )

        return await self.until(there)

    async def until(self, there: Callable[[], bool], seconds: float = 30) -> bool:
        """Waits until something is there; False where the connection is closed before.

        Raises:
            TimeoutError: Nothing came for so long.
        """
        while not there() and not self.closed:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), seconds)
        return there()

    def messages(self, stream: int) -> tuple[list[bytes], bytes]:
        """The whole messages that came on a stream, without gRPC's prefix, and what follows."""
        data = b"".join(
            event.data
            for event in self.events
            if isinstance(event, h2.events.DataReceived) and event.stream_id == stream
        )
        found = []
        while len(data) >= 5 and len(data) >= (end := 5 + int.from_bytes(data[1:5])):
            found.append(data[5:end])
            data = data[end:]
        return found, data

    def status(self, stream: int) -> str | None:
        """The gRPC status of an rpc that has ended, as it came."""
        for event in self.events:
            headers = getattr(event, "headers", None)
            if headers and event.stream_id == stream:
                found = {bytes(key): bytes(value) for key, value in headers}
                if b"grpc-status" in found:
                    return found[b"grpc-status"].decode()
        return None

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(65536):
                new = self.h2.receive_data(data)
                self.events += new
                for event in new:
                    self.closed = self.closed or isinstance(event, h2.events.ConnectionTerminated)
                    if isinstance(event, h2.events.DataReceived) and self.acknowledging:
                        size = event.flow_controlled_length
                        if size:
                            self.h2.acknowledge_received_data(size, event.stream_id)
                self.raw(b"")
                self._changed.set()
        except (OSError, h2.exceptions.ProtocolError):
            pass
        self.closed = True
        self._changed.set()

    acknowledging = True

    async def __aenter__(self) -> H2Client:
        self._reader, self._writer = await asyncio.open_connection(*self._address.split(":"))
        self.h2.initiate_connection()
        await self.flush()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.transport.abort()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
