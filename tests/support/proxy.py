"""Something between a client and its server that can fail in the ways that networks do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType

# What close() does with this set: a reset (RST) is sent, rather than an end (FIN).
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """A listener in front of a server; an async context manager.

    Args:
        address: HOST:PORT of the server.

    Attributes:
        port: Where it listens.
        sent: Bytes that came through from the server.
    """

    def __init__(self, address: str) -> None:
        self.port = 0
        self.sent = 0
        self._address = address
        self._writers: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._passing = asyncio.Event()
        self._passing.set()
        self._delay = 0.0

    @property
    def target(self) -> str:
        """Where its clients connect to."""
        return f"ipv4:127.0.0.1:{self.port}"

    def kill(self) -> None:
        """Resets all connections on both sides, as the end of a process does; still listens."""
        for pair in self._writers:
            for writer in pair:
                with contextlib.suppress(OSError):
                    connection = writer.get_extra_info("socket")
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
        self._writers.clear()

    def close_half(self) -> None:
        """Tells the server that its clients say no more, and goes on passing what it sends."""
        for _, to_server in self._writers:
            with contextlib.suppress(OSError):
                to_server.write_eof()

    def hold(self) -> None:
        """Takes no more from the server: its clients seem to read nothing."""
        self._passing.clear()

    def let_go(self) -> None:
        """Passes on again what the server sends."""
        self._passing.set()

    def slow_down(self, seconds: float) -> None:
        """Lets every piece from the server wait for so long."""
        self._delay = seconds

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            theirs, to_server = await asyncio.open_connection(*self._address.split(":"))
        except OSError:
            writer.transport.abort()
            return
        self._writers.append((writer, to_server))
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pass_on(reader, to_server), self._return(theirs, writer))
        for one in (writer, to_server):
            one.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    async def _return(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._passing.wait()
            data = await reader.read(65536)
            if not data:
                writer.write_eof()
                return
            if self._delay:
                await asyncio.sleep(self._delay)
            self.sent += len(data)
            writer.write(data)
            await writer.drain()

    async def __aenter__(self) -> Proxy:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=65536)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.close()
        self.let_go()
        self.kill()
